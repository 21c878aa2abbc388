// A local tool on npm's mqtt. What it is told and what it says is as in paho_tool.py.
//
//     node mqtt_tool.js PORT VERSION NAME CLEAN WILL

const readline = require("node:readline");
const mqtt = require("mqtt");

const [port, version, name, clean, will] = process.argv.slice(2);

function say(...words) {
  process.stdout.write(`${words.join(" ")}\n`);
}

const options = { port: Number(port), clientId: name, clean: clean === "1", reconnectPeriod: 0 };
options.protocolVersion = version === "5" ? 5 : 4;
if (version === "5") {
  options.properties = { sessionExpiryInterval: clean === "1" ? 0 : 3600 };
}
if (will !== "-") {
  options.will = { topic: will, payload: "gone", qos: 1, retain: false };
}
const tool = mqtt.connect("mqtt://127.0.0.1", options);
tool.on("connect", (connack) => say("connected", Number(connack.sessionPresent)));
tool.on("error", (error) => say("error", error));
tool.on("message", (topic, payload, packet) => say("message", packet.qos, Number(packet.retain), topic, payload));

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const [word, ...rest] = line.split(" ");
  try {
    if (word === "subscribe") {
      const granted = await tool.subscribeAsync(rest[1], { qos: Number(rest[0]) });
      say("granted", ...granted.map((each) => each.qos));
    } else if (word === "unsubscribe") {
      await tool.unsubscribeAsync(rest[0]);
      say("unsubscribed");
    } else if (word === "publish") {
      const [qos, retain, topic, text] = rest;
      await tool.publishAsync(topic, text, { qos: Number(qos), retain: retain === "1" });
      say("published");
    }
  } catch (error) {
    say("error", error);
  }
});
lines.on("close", () => tool.end());
