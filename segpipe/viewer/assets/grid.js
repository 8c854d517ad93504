import { h } from "./dom.js";

document.querySelector("#main").append(h("h1", {}, "Images"));
