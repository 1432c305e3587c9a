// HTTP/2 by Node.js: `node_client.mjs ORIGIN CA OWN_LANE`, where ORIGIN is http://… or https://…. One line for each check.

import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [origin, authority, ownLane] = process.argv.slice(2);
const options = origin.startsWith("https") ? { ca: readFileSync(authority), servername: "localhost" } : {};
let faults = 0;

function connect() {
  const session = http2.connect(origin, options);
  session.on("error", (error) => console.log(`FAULT node: the session: ${error}`));
  return session;
}

// The whole answer; `write` gets the stream of a request with a body.
function ask(session, head, write) {
  return new Promise((resolve, reject) => {
    const stream = session.request(head, { endStream: !write });
    const got = { hints: [], pieces: [], trailers: {} };
    stream.on("headers", (fields) => got.hints.push(fields[":status"]));
    stream.on("response", (fields) => Object.assign(got, { status: fields[":status"], fields }));
    stream.on("trailers", (fields) => (got.trailers = fields));
    stream.on("data", (piece) => got.pieces.push(piece));
    stream.on("end", () => resolve({ ...got, body: Buffer.concat(got.pieces) }));
    stream.on("error", reject);
    write?.(stream);
  });
}

function equal(got, wanted) {
  if (got !== wanted) throw new Error(`${got} came, not ${wanted}`);
}

async function check(name, body) {
  const session = connect();
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("nothing after 30 s")), 30_000)));
  try {
    await Promise.race([body(session), late]);
    console.log(`ok    node: ${name}`);
  } catch (fault) {
    faults += 1;
    console.log(`FAULT node: ${name}: ${fault}`);
  }
  clearTimeout(timer);
  session.destroy();
}

await check("GET", async (session) => equal((await ask(session, { ":path": "/bytes/100" })).body.length, 100));
await check("HEAD", async (session) => {
  const got = await ask(session, { ":path": "/bytes/100", ":method": "HEAD" });
  equal(`${got.fields["content-length"]} ${got.body.length}`, "100 0");
});
await check("a body of 20 MB down", async (session) => {
  equal((await ask(session, { ":path": "/chunked/20000000" })).body.length, 20_000_000);
});
await check("a body of 20 MB up", async (session) => {
  const body = randomBytes(20_000_000);
  const got = await ask(session, { ":path": "/sink", ":method": "POST" }, (stream) => stream.end(body));
  equal(got.body.toString(), `${body.length} ${createHash("sha256").update(body).digest("hex")}`);
});
await check("an echo in pieces", async (session) => {
  const got = await ask(session, { ":path": "/echo", ":method": "POST" }, (stream) => {
    let at = 0;
    const next = () => (at++ < 50 ? stream.write(Buffer.alloc(1000, at), () => setTimeout(next, 1)) : stream.end());
    next();
  });
  equal(got.body.length, 50_000);
});
await check("1,000 requests, 100 at once", async (session) => {
  let left = 1000;
  const worker = async () => {
    while (left-- > 0) equal((await ask(session, { ":path": `/bytes/${left}` })).status, 200);
  };
  await Promise.all(Array.from({ length: 100 }, worker));
});
await check("cookies are joined", async (session) => {
  const got = await ask(session, { ":path": "/sink", cookie: ["a=1", "b=2"] });
  equal(got.fields["x-cookie"], "a=1; b=2");
});
await check("PING", async (session) => {
  await new Promise((resolve) => session.once("connect", resolve));
  await new Promise((resolve, reject) => session.ping((error) => (error ? reject(error) : resolve())));
});
await check("a request that is cancelled leaves the others alone", async (session) => {
  const slow = session.request({ ":path": "/delay/5000" });
  slow.on("error", () => {});
  const other = ask(session, { ":path": "/delay/200" });
  setTimeout(() => slow.close(http2.constants.NGHTTP2_CANCEL), 50);
  equal((await other).status, 200);
});
if (ownLane === "true") {
  await check("trailers", async (session) => equal((await ask(session, { ":path": "/trailers" })).trailers["x-after"], "all"));
  await check("early hints", async (session) => equal((await ask(session, { ":path": "/hints" })).hints.join(), "103"));
  await check("WebSocket by extended CONNECT", async (session) => {
    await new Promise((resolve) => session.once("remoteSettings", resolve));
    equal(session.remoteSettings.enableConnectProtocol, true);
    const head = { ":method": "CONNECT", ":protocol": "websocket", ":path": "/ws", "sec-websocket-version": "13" };
    const stream = session.request(head, { endStream: false });
    await new Promise((resolve, reject) => stream.on("error", reject).on("response", resolve));
    stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
    const echo = await new Promise((resolve) => stream.once("data", resolve));
    equal(echo.toString("hex"), "81026869");
    stream.close();
  });
}
process.exit(faults);
