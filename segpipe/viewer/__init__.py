"""`segpipe view`: a store in the browser. One process, one person, nothing that writes.

How it is put together:

- `server` binds 127.0.0.1, prints the address with its token, and answers until Ctrl-C.
- `app.create_app` puts the routes together; `gate` lets in who has the token, and sets the headers.
- `viewer.Viewer` is what every route works on: `snapshot()` is the store as it is now (looked at
  again every few seconds), `find(image_id, run)` is one image row, `index` holds what filters need,
  `answers` asks it, `thumbnails` draws.
- A page is a module with a function `routes(viewer) -> APIRouter`, which `create_app` includes;
  its endpoints are plain `def`, so that several are answered at once, each in a thread. Addresses:
  `/` and `/image/...`, `/compare` are pages, all else is below `/api/`.
- `pages.page(title, body, script)` is the layout that all pages share. `body` is a file in
  `assets/`, without data in it: a page gets its data from `/api/`, as JSON.
- `assets/` is served at `/assets/`: `style.css` (colours and parts as CSS variables and classes;
  dark mode is in the variables), and JavaScript modules. Add files of your own beside them.

What holds for every page, because `gate` says so in its headers: no inline script or style,
nothing from elsewhere, and no markup made of strings (`require-trusted-types-for 'script'`:
`innerHTML = "..."` throws). Build elements with
`dom.js` (`h("a", {href}, text)`), whose texts are text. Pictures come from addresses of this
server: no `data:` and no `blob:`. Styles that depend on data are set through `element.style`, which
the policy allows.

`selection.js` keeps what was chosen, images as `{image_id, run}` and objects as
`{image_id, run, label}`, and tells every open page of the same store of a change.
"""
