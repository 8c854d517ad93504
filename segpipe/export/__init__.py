"""Results for other programs: label images, COCO."""
