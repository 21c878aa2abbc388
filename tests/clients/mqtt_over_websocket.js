// npm's mqtt over WebSocket: what it publishes comes back to it, and what came is told as lines of
// JSON.
//
//     node mqtt_over_websocket.js exchange URL VERSION NAME CA
//     node mqtt_over_websocket.js flow URL VERSION NAME CA
//
// `exchange`: each QoS with 5 bytes and with 200 KB, a retained message, a session that is left and
// resumed. `flow`: a publish every few milliseconds, QoS 1 and 2 in turn, to a session that is
// kept, however often the broker is gone. It says "half" when half of them are acknowledged, and in
// the end how many came.

const crypto = require("node:crypto");
const fs = require("node:fs");
const mqtt = require("mqtt");

const [mode, url, version, name, ca] = process.argv.slice(2);
const FLOW = 400;

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function connect(role, clean, reconnectPeriod) {
  const options = { clientId: `${name}-${role}`, clean, reconnectPeriod, connectTimeout: 5000 };
  options.protocolVersion = version === "5" ? 5 : 4;
  if (version === "5") {
    options.properties = { sessionExpiryInterval: clean ? 0 : 3600 };
  }
  if (ca !== "-") {
    options.ca = fs.readFileSync(ca);
  }
  const client = mqtt.connect(url, options);
  // A broker that is gone is a matter of the next attempt.
  client.on("error", (error) => reconnectPeriod || fail(error));
  return client;
}

function fail(error) {
  say({ error: String(error) });
  process.exit(1);
}

function connected(client) {
  return new Promise((resolve) => client.once("connect", (connack) => resolve(connack.sessionPresent)));
}

// The next `count` messages, as what can be compared: a message of QoS 2 is there with its PUBREL,
// so only those of one topic and one QoS have an order.
function messages(client, count) {
  const came = [];
  return new Promise((resolve) => {
    client.on("message", function take(topic, payload, { qos, retain }) {
      const hash = crypto.createHash("sha256").update(payload).digest("hex").slice(0, 16);
      came.push([topic, qos, retain, payload.length, hash]);
      if (came.length === count) {
        client.removeListener("message", take);
        resolve(came.sort((a, b) => a[0].localeCompare(b[0]) || a[1] - b[1]));
      }
    });
  });
}

async function exchange() {
  const subscriber = connect("subscriber", false, 0);
  say({ present: await connected(subscriber) });
  const publisher = connect("publisher", true, 0);
  await connected(publisher);
  // mosquitto 2.0.11 lets the rest of a long message lie until something else happens.
  const ticker = connect("ticker", true, 0);
  await connected(ticker);
  const ticking = setInterval(() => ticker.publish("tick", ""), 50);
  say({ granted: (await subscriber.subscribeAsync(`${name}/#`, { qos: 2 })).map(({ qos }) => qos) });
  for (const qos of [0, 1, 2]) {
    for (const size of [5, 200 * 1024]) {
      const payload = Buffer.alloc(size, `${qos} of some length, `);
      const [came] = await Promise.all([
        messages(subscriber, 1),
        publisher.publishAsync(`${name}/${qos}/${size}`, payload, { qos }),
      ]);
      say({ came });
    }
  }
  // Many in one go: packets share frames, and frames are cut.
  const burst = Array.from({ length: 200 }, (_, n) => publisher.publishAsync(`${name}/burst`, `${n}`, { qos: n % 3 }));
  const [many] = await Promise.all([messages(subscriber, 200), ...burst]);
  say({ many });
  await subscriber.endAsync();
  await publisher.publishAsync(`${name}/kept`, "stays", { qos: 1, retain: true });
  for (const n of [1, 2, 3]) {
    await publisher.publishAsync(`${name}/away`, `${n}`, { qos: 1 + (n % 2) });
  }
  const resumed = connect("subscriber", false, 0);
  const [present, came] = await Promise.all([connected(resumed), messages(resumed, 4)]);
  say({ present, came });
  const [kept] = await Promise.all([messages(publisher, 1), publisher.subscribeAsync(`${name}/kept`, { qos: 1 })]);
  say({ kept });
  clearInterval(ticking);
  await Promise.all([resumed.endAsync(), publisher.endAsync(), ticker.endAsync()]);
}

async function flow() {
  const came = new Map();
  const subscriber = connect("subscriber", false, 200);
  subscriber.on("message", (topic, payload) => {
    const n = Number(payload);
    came.set(n, (came.get(n) ?? 0) + 1);
  });
  await connected(subscriber);
  await subscriber.subscribeAsync(`${name}/#`, { qos: 2 });
  const publisher = connect("publisher", false, 200);
  await connected(publisher);
  let acknowledged = 0;
  const all = [];
  for (let n = 0; n < FLOW; n += 1) {
    const published = publisher.publishAsync(`${name}/n`, `${n}`, { qos: 1 + (n % 2) });
    all.push(
      published.then(() => {
        acknowledged += 1;
        if (acknowledged === FLOW / 2) {
          say("half");
        }
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Promise.all(all);
  say({ acknowledged });
  while (came.size < FLOW) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const twice = [...came].filter(([n, times]) => n % 2 && times > 1).length;
  say({ came: came.size, "QoS 2 twice": twice });
  await Promise.all([subscriber.endAsync(), publisher.endAsync()]);
}

(mode === "flow" ? flow() : exchange()).then(() => process.exit(0), fail);
