// Reads CloudEvents from a broker and holds each against the specification's JSON schema, as the SDK of the
// CloudEvents project does. Usage: cloudevents_tool.js PORT PROTOCOL_VERSION COUNT
//
// A line of JSON for each message: {"mode", "valid", "error", "event"}. Ends after COUNT messages.
const mqtt = require('mqtt');
const { CloudEvent } = require('cloudevents');

const [port, version, count] = process.argv.slice(2).map(Number);
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { protocolVersion: version, clientId: 'cloudevents' });
let seen = 0;

// MQTT binding, section 3: MQTT 5 carries attributes as user properties, MQTT 3.1.1 knows structured mode only.
function read(payload, properties) {
  const contentType = properties && properties.contentType;
  if (version === 4 || (contentType || '').startsWith('application/cloudevents')) {
    return ['structured', JSON.parse(payload.toString())];
  }
  const isJson = contentType === 'application/json';
  const data = isJson ? { data: JSON.parse(payload.toString()) } : { data_base64: payload.toString('base64') };
  return ['binary', { ...properties.userProperties, datacontenttype: contentType, ...data }];
}

client.on('message', (topic, payload, packet) => {
  const answer = { valid: true };
  try {
    const [mode, event] = read(payload, packet.properties);
    Object.assign(answer, { mode, event });
    new CloudEvent(event, true).validate();
  } catch (error) {
    Object.assign(answer, { valid: false, error: `${error.message} ${JSON.stringify(error.errors || '')}` });
  }
  console.log(JSON.stringify(answer));
  seen += 1;
  if (seen === count) client.end(false, () => process.exit(0));
});
client.on('connect', () => client.subscribe('#', { qos: 1 }, () => console.log(JSON.stringify({ ready: true }))));
