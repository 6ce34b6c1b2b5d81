// What a browser with JavaScript adds to pages that work without it. No page needs it.
"use strict";

// A part that changes by itself: data-live is a stream of events, data-part the address that gives the part anew. The
// server writes the words; whoever is typing or choosing inside the part is not disturbed. data-load: fetched at once,
// too. data-away: what is said when nobody answers there.
const POLL_MS = 15000;

async function renew(part) {
  if (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
  const turn = part.turn = (part.turn ?? 0) + 1;
  const answer = await fetch(part.dataset.part, {
    headers: { accept: "text/html" }, credentials: "same-origin", redirect: "manual", signal: AbortSignal.timeout(10000),
  }).catch(() => null);
  const text = answer?.ok ? await answer.text() : "";
  if (turn !== part.turn) return; // what was asked later is newer, whichever is answered first
  if (answer?.type === "opaqueredirect") return; // to the log-in
  if (!answer?.ok) {
    if (part.dataset.away) { part.textContent = part.dataset.away; part.words = ""; }
    return;
  }
  const fresh = part.cloneNode(false);
  fresh.innerHTML = text;
  const words = fresh.innerHTML.trim();
  if (words === part.words) return; // the same words are not read aloud twice
  part.words = words;
  const held = part.contains(document.activeElement);
  const focused = held ? named(document.activeElement) : "";
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  part.replaceChildren(...fresh.childNodes);
  for (const one of part.querySelectorAll("[data-calls]")) { // a button elsewhere is called by what stands here
    const button = document.getElementById(one.dataset.calls);
    if (button) button.textContent = one.textContent;
  }
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (held) ((focused && document.querySelector(focused)) || reachable(part)).focus();
}

// How to find again what has the focus: by its id, or that of what it folds.
function named(one) {
  if (one.id) return `#${CSS.escape(one.id)}`;
  return one.matches("details[id] > summary") ? `#${CSS.escape(one.parentElement.id)} > summary` : "";
}

// What had the focus may be gone: whoever goes by keyboard goes on from the same part.
function reachable(part) {
  part.tabIndex = -1;
  return part;
}

// A stream begins with what there is now, which may be newer than the page: it was made a while ago, or comes back from
// the browser's own memory.
function follow(part) {
  let last = 0;
  part.words = part.innerHTML.trim();
  const now = () => { last = Date.now(); renew(part).catch(() => {}); };
  if ("load" in part.dataset) now();
  if (part.dataset.live && "EventSource" in window) {
    let stream;
    const listen = () => {
      stream = new EventSource(part.dataset.live);
      for (const kind of (part.dataset.events || "message").split(" ")) stream.addEventListener(kind, now);
    };
    listen();
    addEventListener("pagehide", () => stream.close());
    addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
    setInterval(() => { if (stream.readyState === EventSource.CLOSED && Date.now() - last > POLL_MS) now(); }, POLL_MS);
  } else {
    setInterval(now, POLL_MS);
  }
}

document.querySelectorAll("[data-part]").forEach(follow);

// A form is sent once, however often its button is pressed; and not at all without a network. After a while it may be
// pressed again: whoever has stopped a slow page would else have to type all anew, and the server takes a repeat.
const AGAIN_MS = 10000;
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (!navigator.onLine) {
    event.preventDefault();
    let told = form.querySelector(".offline");
    if (!told) {
      told = document.createElement("p");
      told.className = "offline error";
      told.setAttribute("role", "alert");
      form.append(told);
    }
    told.textContent = document.body.dataset.offline;
    return;
  }
  form.querySelector(".offline")?.remove();
  if (Date.now() - (form.dataset.sent || 0) < AGAIN_MS) { event.preventDefault(); return; }
  form.dataset.sent = Date.now();
}, true);
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));

// Who is logged in and does nothing is logged out, and after some hours in any case. Both are told before: data-idle and
// data-left are seconds from when the page came. What a page fetches by itself is no use of a session, another tab's page
// is: so tabs tell each other, and by the token of its forms which session they are of; the page after a log-out tells of
// none. Escape, too, is a sign of somebody who is there. When the time is over, or the browser has another session by now
// or none, nothing of the page is to be seen, and its tab is not called by it.
const IDLE_TOLD_MS = 120000, END_TOLD_MS = 300000, LOOK_MS = 5000;

function stayLoggedIn(told) {
  const tabs = new BroadcastChannel("kursnett"), form = told.querySelector("form"), failed = form.querySelector("[data-failed]");
  const session = form.elements.csrf.value, over = told.querySelector("#stay-over"), back = over.querySelector("a");
  const { title } = document, base = back.href, page = () => base + encodeURIComponent(location.search);
  let used, end, shown = "";
  const show = (kind) => {
    if (kind === shown) return;
    shown = kind;
    document.body.classList.toggle("over", kind === over.id);
    document.title = kind === over.id ? told.dataset.over : title;
    for (const one of told.querySelectorAll("dialog")) {
      if (one.id === kind) one.showModal(); else one.close();
    }
  };
  const look = () => {
    const idle = used + told.dataset.idle * 1000 - Date.now(), left = end - Date.now();
    if (Math.min(idle, left) <= 0) show("stay-over");
    else if (left <= END_TOLD_MS && left <= idle) show("stay-end");
    else show(idle <= IDLE_TOLD_MS ? "stay-idle" : "");
  };
  const endIt = () => { used = -Infinity; look(); };
  const now = (until) => { used = Date.now(); end = until; failed.textContent = ""; look(); };
  const tell = () => tabs.postMessage({ session, end });
  tabs.addEventListener("message", ({ data }) => { if (data.session === session) now(data.end); else endIt(); });
  now(Date.now() + (told.dataset.left ?? Infinity) * 1000);
  tell();
  giveBack(told.dataset.who, page());
  back.addEventListener("click", () => { back.href = page(); keep(told.dataset.who, back.href); });
  over.addEventListener("close", () => { if (shown === over.id) over.showModal(); }); // by Escape
  form.addEventListener("submit", async (event) => {
    if (event.defaultPrevented) return;
    event.preventDefault();
    const answer = await fetch(form.action, {
      method: "post", body: new URLSearchParams(new FormData(form)), signal: AbortSignal.timeout(10000),
    }).catch(() => null);
    delete form.dataset.sent;
    if (answer?.ok) { now(end); tell(); }
    else if (answer?.status === 401) endIt();
    else failed.textContent = failed.dataset.failed;
  });
  told.querySelector("#stay-idle").addEventListener("cancel", (event) => { event.preventDefault(); form.requestSubmit(); });
  setInterval(look, LOOK_MS);
  document.addEventListener("visibilitychange", look);
  addEventListener("pageshow", look);
}

// What somebody had typed when the time was over goes with them through the log-in, in this tab alone: the next page here
// of anybody who is logged in takes it away, and has it only if it is the same page of the same person.
const KEPT = "typed", KEPT_MS = 1800000;

function typed() {
  return [...document.querySelectorAll("main form :is(input, select, textarea)[name]")]
    .filter((field) => !["hidden", "file", "password", "submit"].includes(field.type))
    .map((field) => ({ field, choice: ["radio", "checkbox"].includes(field.type) }))
    .map(({ field, choice }) => ({ field, choice, is: [field.form.getAttribute("action"), field.name, choice && field.value].join() }));
}

function keep(who, page) {
  const fields = typed().map(({ field, choice, is }) => [is, choice ? field.checked : field.value]);
  sessionStorage.setItem(KEPT, JSON.stringify({ who, page, at: Date.now(), fields }));
}

function giveBack(who, page) {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  sessionStorage.removeItem(KEPT);
  if (kept?.who !== who || kept.page !== page || Date.now() - kept.at > KEPT_MS) return;
  for (const { field, choice, is } of typed()) {
    const at = kept.fields.findIndex((one) => one[0] === is);
    if (at >= 0) field[choice ? "checked" : "value"] = kept.fields.splice(at, 1)[0][1];
  }
}

document.querySelectorAll("#stay").forEach(stayLoggedIn);
document.querySelectorAll("[data-ended]").forEach(() => new BroadcastChannel("kursnett").postMessage({}));

document.querySelectorAll("[data-print]").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", () => print());
});

// The address of a search says what was asked for, and nothing else.
document.addEventListener("formdata", (event) => {
  if (event.target.method !== "get") return;
  for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
});

// A search while typing that gets no answer says so; what stands there is the answer before it.
function unanswered(is) { const told = document.getElementById("uten-svar"); if (told) told.hidden = !is; }
document.addEventListener("htmx:error", () => unanswered(true));
document.addEventListener("htmx:after:swap", (event) => {
  const status = event.detail.ctx.response?.status ?? 200;
  unanswered(status >= 400 && status !== 422);
});
