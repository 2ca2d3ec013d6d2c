// What Node's `ws` sees of a server: one line of JSON. Usage: node node_client.js URL
const crypto = require("crypto");
const WebSocket = require("ws");

const url = process.argv[2];
const seen = {};

function once(emitter, event) {
  return new Promise((resolve, reject) => {
    emitter.once(event, (...args) => resolve(args));
    emitter.once("error", reject);
  });
}

async function echo(options) {
  const socket = new WebSocket(`${url}/echo`, ["echo.v2", "echo.v1"], options);
  await once(socket, "open");
  const back = [];
  for (const message of ["héllo ❤", "", "x".repeat(300000), crypto.randomBytes(300000)]) {
    socket.send(message);
    const [data, isBinary] = await once(socket, "message");
    back.push(isBinary === (typeof message !== "string") && data.equals(Buffer.from(message)));
  }
  socket.send("frag", { fin: false });
  socket.send("men", { fin: false });
  socket.send("ted", { fin: true });
  back.push((await once(socket, "message"))[0].toString());
  socket.ping("are you there?");
  back.push((await once(socket, "pong"))[0].toString());
  socket.close(4321, "enough");
  const [code] = await once(socket, "close");
  return { back, code, subprotocol: socket.protocol, extensions: socket.extensions };
}

async function main() {
  seen.deflated = await echo({ perMessageDeflate: { threshold: 0 } });
  seen.plain = await echo({ perMessageDeflate: false });

  const closing = new WebSocket(`${url}/close`);
  const [code, reason] = await once(closing, "close");
  seen.closed = [code, reason.toString()];

  const denied = new WebSocket(`${url}/deny`);
  const [, response] = await once(denied, "unexpected-response");
  seen.denied = response.statusCode;
  response.destroy();

  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
