const button = document.querySelector("button");
const starting = document.getElementById("starting");
const show = (busy) => { button.disabled = busy; starting.hidden = !busy; };
document.querySelector("form").addEventListener("submit", () => show(true));
addEventListener("pageshow", () => show(false));
