// The page of the chat. Its heart is connect(): a WebSocket with its four events, a
// reconnect that backs off, and a position, from which the server goes on. What has not come
// back from the room is sent again, and what has been shown is not shown again. Text from
// others reaches the page as textContent only, never as HTML.
"use strict";

const SUBPROTOCOL = "chat.v2";
const MAX_PICTURE = 256 * 1024; // bytes, as in app.py
const MAX_LOG = 500; // messages the page keeps
const MAX_SHOWN = 1_000; // messages the page knows again
const MAX_DELAY = 30_000; // milliseconds between two attempts
const REFUSED = [1003, 1008, 1009]; // close codes for a message that breaks the rules
const MEANINGS = {
  1000: "normal closure",
  1001: "going away",
  1003: "unsupported data",
  1006: "connection lost",
  1008: "policy violation",
  1009: "message too big",
  1011: "server error",
  1012: "service restart",
  1013: "try again later",
};

const OFFLINE = "This device is offline";

const element = (id) => document.getElementById(id);

let name = sessionStorage.getItem("name");
let room = location.hash.slice(1) || "lobby";
let rooms = {};
const links = new Map(); // of the list of rooms: they change in place, so that none loses the focus
let socket = null;
let attempts = 0; // to connect, since the last connection that lasted
let retryTimer = 0;
let following = true; // the log is scrolled to its end
let ready = false; // what was missed has come: from now on the page may speak
let roomsTimer = 0;
let position = null; // of the newest message: a reconnect brings what came after it
let begun = null; // where the room was when this connection began
const shown = new Set(); // the ids of the messages shown
const unsettled = new Map(); // by id, what was sent and has not come back from the room yet

// ---- The connection --------------------------------------------------------------

function roomUrl(query) {
  return new URL(`rooms/${encodeURIComponent(room)}?${new URLSearchParams(query)}`, document.baseURI);
}

function connect() {
  disconnect();
  ready = false;
  showState("connecting");
  const url = roomUrl(position ? { name, after: position } : { name });
  url.protocol = url.protocol.replace("http", "ws"); // https becomes wss

  let opened = 0;
  socket = new WebSocket(url, SUBPROTOCOL);

  socket.onopen = () => {
    opened = Date.now();
    showState("open");
    refreshRooms();
  };

  socket.onmessage = ({ data }) => receive(JSON.parse(data));

  socket.onclose = async ({ target, code, reason }) => {
    if (Date.now() - opened > 5_000 && opened) attempts = 0;
    let text, final = false;
    if (opened) {
      text = `Connection closed: ${code} ${reason || MEANINGS[code] || ""}`.trim();
      note(text);
      if (REFUSED.includes(code)) unsettled.clear(); // what was refused is not sent again
    } else {
      [text, final] = await whyRefused();
      if (target !== socket) return; // meanwhile another room was chosen
    }
    if (final) {
      showState("closed", text);
    } else {
      reconnect(text);
    }
  };
}

// Leave without a trace: what the old connection still says is of no interest.
function disconnect() {
  clearTimeout(retryTimer);
  if (socket) {
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
    socket = null;
  }
}

// Wait twice as long after each failure, and never exactly as long as the others do:
// a server that comes back must not meet all its clients in the same moment.
function reconnect(text) {
  const ceiling = Math.min(MAX_DELAY, 1_000 * 2 ** attempts);
  const delay = ceiling * (0.5 + Math.random() / 2);
  attempts += 1;
  showState("waiting", text);
  countDown(Date.now() + delay);
}

function countDown(due) {
  const left = due - Date.now();
  if (left <= 0) {
    connect();
    return;
  }
  element("countdown").textContent = `Next try in ${Math.ceil(left / 1_000)} s.`;
  retryTimer = setTimeout(countDown, left % 1_000 || 1_000, due);
}

// A browser does not tell a script why a handshake was refused. The same URL over HTTP
// does. Returns the reason, and whether asking again is pointless.
async function whyRefused() {
  try {
    const response = await fetch(roomUrl({ name }));
    if (response.ok) return ["The handshake failed", false];
    const reason = (await response.text()).slice(0, 200);
    return [`Handshake refused: ${response.status} ${reason}`, response.status < 500];
  } catch {
    return [navigator.onLine ? "The server does not answer" : OFFLINE, false];
  }
}

// ---- What arrives ----------------------------------------------------------------

// Everything is an envelope of the server: an object with a topic. Only `ready` comes from
// the application itself.
function receive(envelope) {
  if (envelope.type === "ready") {
    // All that was missed has come. What is not among it did not reach the room.
    position ??= begun;
    ready = true;
    for (const message of unsettled.values()) socket.send(message);
  } else if (envelope.topic === "doors") {
    if (envelope.data) showDoor(envelope.data);
  } else if (envelope.subscribed) {
    begun = envelope.position;
    if (envelope.recovered === false) {
      position = null;
      note("Some messages may be missing here");
    }
  } else if (envelope.gap) {
    note(`${envelope.gap} messages are missing here`);
  } else {
    position = envelope.position;
    if (envelope.base64 === undefined) {
      settle(envelope.data);
    } else {
      const bytes = Uint8Array.from(atob(envelope.base64), (letter) => letter.charCodeAt(0));
      const lineEnd = bytes.indexOf(10);
      const event = JSON.parse(new TextDecoder().decode(bytes.subarray(0, lineEnd)));
      settle(event, bytes.subarray(lineEnd + 1));
    }
  }
}

// A message is in the room. It may come twice: sent twice, or shown to a newcomer again.
function settle(event, bytes) {
  unsettled.delete(event.id);
  if (shown.has(event.id)) return;
  shown.add(event.id);
  if (shown.size > MAX_SHOWN) shown.delete(shown.values().next().value);
  switch (event.type) {
    case "message": {
      const text = document.createElement("p");
      text.className = "text";
      text.dir = "auto";
      text.textContent = event.text;
      showMessage(event, text);
      break;
    }
    case "picture": {
      const image = document.createElement("img");
      image.className = "picture";
      image.alt = `A picture from ${event.name}`;
      image.onload = () => {
        URL.revokeObjectURL(image.src);
        followLog();
      };
      image.src = URL.createObjectURL(new Blob([bytes], { type: event.media_type }));
      showMessage(event, image);
      break;
    }
  }
}

function showDoor(event) {
  if (event.room === room) note(event.came ? `${event.came} came in` : `${event.left} left`);
  // The numbers are asked for a moment later, once for all who come and go at a time.
  clearTimeout(roomsTimer);
  roomsTimer = setTimeout(refreshRooms, 200 + 300 * Math.random());
}

// ---- What is sent ----------------------------------------------------------------

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function send(id, message) {
  unsettled.set(id, message);
  if (ready) socket.send(message);
}

function sendText() {
  const text = element("text").value;
  if (socket?.readyState !== WebSocket.OPEN || !text.trim()) return;
  const id = newId();
  send(id, JSON.stringify({ id, text }));
  element("text").value = "";
}

async function sendPicture(file) {
  try {
    const fits = file.size <= MAX_PICTURE && /^image\/(png|jpeg|gif)$/.test(file.type);
    const picture = fits ? file : await shrink(file);
    if (socket?.readyState !== WebSocket.OPEN) return;
    const id = newId();
    send(id, new Blob([JSON.stringify({ id }), "\n", picture]));
  } catch {
    note(`${file.name || "This file"} cannot be sent as a picture`);
  }
}

// Any image the browser can read becomes a JPEG that fits.
async function shrink(file) {
  const bitmap = await createImageBitmap(file);
  for (let side = 1600; side >= 200; side /= 2) {
    const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, bitmap.width * scale);
    canvas.height = Math.max(1, bitmap.height * scale);
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
    if (blob.size <= MAX_PICTURE) return blob;
  }
  throw new Error("too large");
}

// ---- The page --------------------------------------------------------------------

function avatar(person) {
  const circle = document.createElement("span");
  circle.className = "avatar";
  paintAvatar(circle, person);
  return circle;
}

function paintAvatar(circle, person) {
  let hue = 0;
  for (const letter of person) hue = (hue * 137 + letter.codePointAt(0) * 59) % 360;
  circle.style.setProperty("--hue", hue);
  circle.textContent = [...person][0].toUpperCase();
}

function showMessage(event, content) {
  const at = new Date(event.at);
  const item = document.createElement("li");
  item.className = "message";
  item.classList.toggle("mine", event.name === name && event.via !== "http");

  const head = document.createElement("p");
  head.className = "head";
  const author = document.createElement("strong");
  author.textContent = event.name;
  const time = document.createElement("time");
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  head.append(author, time);
  if (event.via === "http") {
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.textContent = "HTTP";
    badge.title = "Posted over HTTP, without a connection";
    head.append(badge);
  }

  const face = avatar(event.name);
  face.setAttribute("aria-hidden", "true");
  // Who goes on talking is not introduced again.
  item.dataset.author = `${event.name} ${event.via === "http"}`;
  const before = element("messages").lastElementChild?.dataset.author;
  item.classList.toggle("again", before === item.dataset.author);

  const bubble = document.createElement("div");
  bubble.className = "bubble";
  bubble.append(head, content);
  item.append(face, bubble);
  append(item);
}

function note(text) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = text;
  append(item);
}

function append(item) {
  const messages = element("messages");
  messages.append(item);
  while (messages.children.length > MAX_LOG) messages.firstChild.remove();
  followLog();
}

// Keep the newest message in view, unless the reader has scrolled up.
function followLog() {
  if (following) element("log").scrollTop = element("log").scrollHeight;
}

// `state` is connecting, open, waiting (for the next attempt) or closed (for good).
function showState(state, text = "") {
  const words = { connecting: "connecting", open: "online", waiting: "offline", closed: "refused" };
  element("state").dataset.state = state;
  element("state").textContent = words[state];
  if (state === "connecting") {
    element("countdown").textContent = "Trying now."; // and why is still to be read
  } else {
    if (element("notice").contains(document.activeElement) && !text) element("text").focus();
    element("notice").hidden = !text;
    element("notice-text").textContent = text && `${text.replace(/[.]$/, "")}.`;
    element("countdown").textContent = "";
  }
  if (state !== "open") element("present").textContent = "";
  // Not `disabled`, which would take the focus away from them.
  for (const id of ["send", "attach"]) element(id).ariaDisabled = String(state !== "open");
}

async function refreshRooms() {
  try {
    rooms = await (await fetch("rooms")).json();
  } catch {
    return; // what is shown stays
  }
  showRooms();
  showTitle();
}

function showRooms() {
  for (const [id, { title, seats, taken, locked }] of Object.entries(rooms)) {
    const link = links.get(id) ?? addLink(id);
    const [label, count, spoken] = link.children;
    label.textContent = title;
    count.textContent = locked ? "locked" : `${taken}/${seats}`;
    spoken.textContent = locked ? "locked" : `${taken} of ${seats} seats taken`;
    link.ariaCurrent = id === room ? "page" : null;
    if (id === room && socket?.readyState === WebSocket.OPEN) {
      element("present").textContent = `${taken} here`;
    }
  }
}

function addLink(id) {
  const link = document.createElement("a");
  link.href = `#${id}`;
  link.append(...["span", "small", "span"].map((tag) => document.createElement(tag)));
  link.children[1].ariaHidden = "true";
  link.children[2].className = "unseen";
  const item = document.createElement("li");
  item.append(link);
  element("rooms").append(item);
  links.set(id, link);
  return link;
}

function showTitle() {
  const title = rooms[room]?.title ?? room;
  document.title = `${title} · Rooms`;
  element("room-title").textContent = title;
  element("room-purpose").textContent = rooms[room]?.purpose ?? "";
  element("text").placeholder = element("text-label").textContent = `Message to ${title}`;
}

function enterRoom() {
  attempts = 0;
  position = null;
  shown.clear();
  unsettled.clear();
  following = true;
  element("messages").replaceChildren();
  element("notice").hidden = true;
  showRooms();
  showTitle();
  refreshRooms();
  connect();
}

function start() {
  element("welcome").hidden = Boolean(name);
  element("chat").hidden = !name;
  if (!name) {
    element("name").focus();
    return;
  }
  element("my-name").textContent = name;
  paintAvatar(element("my-avatar"), name);
  enterRoom();
  element("text").focus();
}

element("welcome-form").onsubmit = (event) => {
  event.preventDefault();
  name = element("name").value.trim();
  sessionStorage.setItem("name", name);
  start();
};

element("rename").onclick = () => {
  disconnect();
  element("name").value = name;
  name = "";
  start();
};

element("composer").onsubmit = (event) => {
  event.preventDefault();
  sendText();
};

element("attach").onclick = () => {
  if (socket?.readyState === WebSocket.OPEN) element("picture").click();
};

element("picture").onchange = () => {
  const [file] = element("picture").files;
  if (file) sendPicture(file);
  element("picture").value = "";
};

document.onpaste = (event) => {
  const [file] = event.clipboardData.files;
  if (file) sendPicture(file);
};

element("log").onscroll = ({ target: log }) => {
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
};
new ResizeObserver(followLog).observe(element("log"));

element("retry").onclick = connect;

// A connection over a network that went away can look open for minutes.
window.onoffline = () => {
  if (element("state").dataset.state !== "open") return;
  disconnect();
  note(OFFLINE);
  reconnect(OFFLINE);
};

window.ononline = () => {
  if (element("state").dataset.state === "waiting") connect();
};

// Who chooses a room wants to write in it. On a touch screen that would open the keyboard.
element("rooms").onclick = ({ target, detail }) => {
  const byKeyboard = detail === 0;
  if (target.closest("a") && (byKeyboard || matchMedia("(hover: hover)").matches)) {
    element("text").focus();
  }
};

window.onhashchange = () => {
  room = location.hash.slice(1) || "lobby";
  if (name) enterRoom();
};

start();
