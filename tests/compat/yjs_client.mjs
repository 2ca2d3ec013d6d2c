// Two editors of one document, by Yjs and its y-websocket. Usage: node yjs_client.mjs WS_URL ROOM
// Prints a line of JSON for each step; the first editor stays until the server goes.
import WebSocket from "ws";
import * as Y from "yjs";
import { WebsocketProvider } from "y-websocket";

const [url, room] = process.argv.slice(2);
const say = (step, what) => console.log(JSON.stringify({ step, ...what }));

function editor() {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(url, room, doc, {
    WebSocketPolyfill: WebSocket,
    disableBc: true, // through the server only, never straight to the other editor here
  });
  return { doc, provider, text: doc.getText("text"), map: doc.getMap("map") };
}

const synced = ({ provider }) =>
  provider.synced || new Promise((resolve) => provider.once("sync", resolve));

const until = (what, condition) =>
  new Promise((resolve, reject) => {
    const started = Date.now();
    const poll = setInterval(() => {
      if (condition()) {
        clearInterval(poll);
        resolve();
      } else if (Date.now() - started > 15000) {
        reject(new Error(`waited in vain for ${what}`));
      }
    }, 10);
  });

const names = ({ provider }) =>
  [...provider.awareness.getStates().values()].map(({ name }) => name).sort().join();

// pycrdt-websocket 0.16 never serves a client that comes while the room is being started.
const first = editor();
await synced(first);
first.provider.destroy();

const ada = editor();
const grace = editor();
await Promise.all([synced(ada), synced(grace)]);
// Now, because the server tells nobody about names that came before.
ada.provider.awareness.setLocalStateField("name", "Ada");
grace.provider.awareness.setLocalStateField("name", "Grace");

ada.text.insert(0, "Dear ");
await until("Ada's text", () => grace.text.toString() === "Dear ");
grace.text.insert(5, "Ada & ❤");
grace.map.set("from", "Grace");
ada.map.set("large", "x".repeat(300000));
await until("Grace's text", () => ada.text.toString() === "Dear Ada & ❤");
await until("both maps", () => ada.map.get("from") && grace.map.get("large"));
await until("both names", () => [ada, grace].every((each) => names(each) === "Ada,Grace"));
say("edited", { text: grace.text.toString(), large: grace.map.get("large").length });

// Both at once and at one place: the same order for both of them.
for (let i = 0; i < 50; i++) {
  ada.text.insert(0, "a");
  grace.text.insert(0, "g");
}
await until("one text", () => {
  const text = ada.text.toString();
  return text.length === 112 && text === grace.text.toString();
});
grace.provider.destroy();
await until("Grace's departure", () => names(ada) === "Ada");

ada.provider.on("connection-close", (event) => {
  say("closed", { code: event?.code });
  process.exit(0);
});
ada.text.observe(() => {
  if (ada.text.toString().endsWith("from pycrdt")) say("joined", { text: ada.text.toString() });
});
say("alone", { text: ada.text.toString() });
