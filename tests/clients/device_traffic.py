"""What devices and tools that people have say to a broker, and what subscribers see of it: one line of JSON for each subscriber.

    device_traffic.py PORT VERSION

Topics, flags, wills, sizes and order are those of the makers' documents; payloads are shortened.

    Home Assistant   homeassistant/status, birth and will; discovery below homeassistant/, said again at each birth
    zigbee2mqtt      bridge/state with a will, bridge/info, bridge/devices: retained, and as large as a list of 100 devices
    Tasmota          tele/…/LWT with a will, cmnd/… taken, stat/… and tele/… said; comes again under the same client id
    Victron GX       R/…/keepalive asks, 1,500 values below N/… come at once
    Sparkplug B      NDEATH is the will of NBIRTH, at QoS 1 and not retained; the host's STATE is retained
"""

import json
import socket
import sys
import threading
import time

import paho.mqtt.client as mqtt

PORT, VERSION = int(sys.argv[1]), sys.argv[2]
LIMIT_S = 30
VALUES = 1500
DEVICES_BYTES = 400_000
PORTAL = "c0619ab17fd2"


def until(what, is_so):
    end = time.monotonic() + LIMIT_S
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {LIMIT_S} s")
        time.sleep(0.002)


class Client:
    """A client, and all that it was sent: topic, QoS, retain flag, payload."""

    def __init__(self, name, will=None, filters=(), react=None):
        self.seen, self.granted, self.react = [], threading.Event(), react
        protocol = mqtt.MQTTv5 if VERSION == "5" else mqtt.MQTTv311
        api = mqtt.CallbackAPIVersion.VERSION2
        self.client = mqtt.Client(api, client_id=name, protocol=protocol, reconnect_on_failure=False)
        self.client.max_inflight_messages_set(100)
        if will:
            topic, payload, qos, retain = will
            self.client.will_set(topic, payload, qos, retain)
        self.client.on_message = self.on_message
        self.client.on_subscribe = lambda *_: self.granted.set()
        connected = threading.Event()
        self.client.on_connect = lambda *_: connected.set()
        self.client.connect("127.0.0.1", PORT, 60)
        self.client.loop_start()
        until(f"{name} is connected", connected.is_set)
        if filters:
            self.client.subscribe([(topic, qos) for topic, qos in filters])
            until(f"{name} has its subscriptions", self.granted.is_set)

    def on_message(self, _client, _data, message):
        self.seen.append([message.topic, message.qos, message.retain, message.payload.decode()])
        if self.react:
            self.react(self, message)

    def say(self, *messages):
        """All at once: none waits for the one before."""
        sent = [self.client.publish(topic, payload, qos, retain) for topic, payload, qos, retain in messages]
        until("what was published is taken", lambda: all(info.is_published() for info in sent))

    def plug_out(self):
        """Ends as by loss of power: no DISCONNECT, so its will is due."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    def has(self, topic, payload=None, times=1):
        return sum(of == topic and payload in (None, said) for of, _, _, said in list(self.seen)) >= times


def discovery():
    return [
        ("homeassistant/light/0x1/light/config", '{"schema":"json","state_topic":"zigbee2mqtt/lamp"}', 1, True),
        ("homeassistant/sensor/0x2/temperature/config", '{"state_topic":"zigbee2mqtt/attic"}', 1, True),
    ]


def zigbee_reacts(client, message):
    if message.topic == "homeassistant/status" and message.payload == b"online":
        for topic, payload, qos, retain in discovery():
            client.client.publish(topic, payload, qos, retain)
    if message.topic == "zigbee2mqtt/lamp/set":
        client.client.publish("zigbee2mqtt/lamp", '{"state":"OFF","brightness":254}', 0, False)


def zigbee():
    will = ("zigbee2mqtt/bridge/state", '{"state":"offline"}', 1, True)
    filters = [("zigbee2mqtt/#", 0), ("homeassistant/status", 0)]
    client = Client("mqttjs_zigbee", will, filters, zigbee_reacts)
    client.say(
        ("zigbee2mqtt/bridge/state", '{"state":"online"}', 1, True),
        ("zigbee2mqtt/bridge/info", '{"version":"2.6.0"}' + " " * 4000, 0, True),
        ("zigbee2mqtt/bridge/devices", "[" + '{"ieee_address":"0x1"}' + " " * DEVICES_BYTES + "]", 0, True),
        ("zigbee2mqtt/bridge/groups", "[]", 0, True),
        *discovery(),
        ("zigbee2mqtt/lamp", '{"state":"ON","brightness":254}', 0, False),
        ("zigbee2mqtt/attic", '{"temperature":19.5}', 0, True),
        ("zigbee2mqtt/attic", '{"temperature":19.6}', 0, True),
        # A device that was removed: its discovery goes.
        ("homeassistant/sensor/0x2/temperature/config", "", 1, True),
    )
    return client


def tasmota_reacts(client, message):
    if message.topic == "cmnd/plug/POWER" and message.payload == b"TOGGLE":
        client.client.publish("stat/plug/RESULT", '{"POWER":"ON"}', 0, False)
        client.client.publish("stat/plug/POWER", "ON", 0, True)


def tasmota():
    """LWT first, an empty command that asks for what is retained of it, then what it is."""
    will = ("tele/plug/LWT", "Offline", 1, True)
    client = Client("DVES_7A11", will, [("cmnd/plug/#", 0), ("cmnd/tasmotas/#", 0)], tasmota_reacts)
    client.say(
        ("tele/plug/LWT", "Online", 0, True),
        ("cmnd/plug/POWER", "", 0, False),
        *((f"tele/plug/INFO{number}", '{"Info":{}}', 0, False) for number in (1, 2, 3)),
        ("tele/plug/STATE", '{"POWER":"OFF"}', 0, False),
        ("tele/plug/SENSOR", '{"ENERGY":{"Power":17}}', 0, False),
    )
    return client


def publish_packet(topic, payload):
    """A PUBLISH at QoS 0 as bytes."""
    body = len(topic).to_bytes(2, "big") + topic.encode() + (b"\0" if VERSION == "5" else b"") + payload.encode()
    length, rest = b"", len(body)
    while True:
        rest, byte = rest >> 7, rest & 127
        length += bytes([byte | (128 if rest else 0)])
        if not rest:
            return b"\x30" + length + body


def victron(early):
    """Asked for, all of its values at once: one write to the socket."""
    name = b"GX"
    level, properties = (5, b"\0") if VERSION == "5" else (4, b"")
    head = b"\0\4MQTT" + bytes([level, 2, 0, 60]) + properties + len(name).to_bytes(2, "big") + name
    values = b"".join(
        publish_packet(f"N/{PORTAL}/system/0/Value/{number}", json.dumps({"value": number})) for number in range(VALUES)
    )
    values += publish_packet(f"N/{PORTAL}/full_publish_completed", '{"value":1}')
    asks = Client("victron-app", None, [(f"N/{PORTAL}/#", 0)])
    with socket.create_connection(("127.0.0.1", PORT)) as gx:
        gx.sendall(bytes([0x10, len(head)]) + head)
        if gx.recv(64)[3] != 0:
            raise SystemExit("the GX is refused")
        asks.say((f"R/{PORTAL}/keepalive", "", 0, False))
        gx.sendall(values)
        done = f"N/{PORTAL}/full_publish_completed"
        until("the GX's values", lambda: asks.has(done) and early.has(done))
        gx.sendall(b"\xe0\0")
    return asks


def sparkplug(number):
    """Each connection has a number of its own in birth and death."""
    will = ("spBv1.0/farm/NDEATH/node", f"bdSeq={number}", 1, False)
    client = Client("node", will, [("spBv1.0/farm/NCMD/node/#", 1), ("spBv1.0/STATE/#", 1)])
    client.say(
        ("spBv1.0/farm/NBIRTH/node", f"bdSeq={number} seq=0", 0, False),
        ("spBv1.0/farm/DBIRTH/node/pump", "seq=1", 0, False),
        *(("spBv1.0/farm/DDATA/node/pump", f"seq={seq}", 0, False) for seq in range(2, 50)),
    )
    return client


def main():
    early = Client("early", None, [("#", 2)])
    host = Client("host", ("spBv1.0/STATE/host", '{"online":false}', 1, True), [("spBv1.0/#", 0)])
    host.say(("spBv1.0/STATE/host", '{"online":true}', 1, True))
    bridge = zigbee()
    until("what the bridge says", lambda: early.has("homeassistant/sensor/0x2/temperature/config", ""))
    until("all that it says", lambda: early.has("zigbee2mqtt/attic", '{"temperature":19.6}'))
    assistant = Client(
        "assistant",
        ("homeassistant/status", "offline", 0, False),
        [("homeassistant/#", 0), ("zigbee2mqtt/#", 0), ("tele/#", 0), ("stat/#", 0)],
    )
    assistant.say(("homeassistant/status", "online", 0, False))
    until("discovery comes again", lambda: early.has("homeassistant/light/0x1/light/config", None, 2))
    until("all of it", lambda: early.has("homeassistant/sensor/0x2/temperature/config", None, 3))
    tasmota()
    until("the plug is there", lambda: early.has("tele/plug/SENSOR"))
    assistant.say(("zigbee2mqtt/lamp/set", '{"state":"OFF"}', 0, False), ("cmnd/plug/POWER", "TOGGLE", 0, False))
    until("the lamp is off", lambda: early.has("zigbee2mqtt/lamp", '{"state":"OFF","brightness":254}'))
    until("the plug is on", lambda: early.has("stat/plug/POWER"))
    # Tasmota loses its Wi-Fi, and is back before the broker knows: its will goes out, and what it says now follows.
    again = tasmota()
    until("the plug is back", lambda: early.has("tele/plug/SENSOR", None, 2))
    app = victron(early)
    node = sparkplug(0)
    until("its data", lambda: early.has("spBv1.0/farm/DDATA/node/pump", "seq=49"))
    node.plug_out()
    until("its death", lambda: early.has("spBv1.0/farm/NDEATH/node", "bdSeq=0"))
    node = sparkplug(1)
    until("its data", lambda: early.has("spBv1.0/farm/DDATA/node/pump", "seq=49", 2))
    # And the power goes.
    for client, topic, payload in (
        (again, "tele/plug/LWT", "Offline"),
        (bridge, "zigbee2mqtt/bridge/state", '{"state":"offline"}'),
        (node, "spBv1.0/farm/NDEATH/node", "bdSeq=1"),
        (host, "spBv1.0/STATE/host", '{"online":false}'),
    ):
        before = sum(of == topic and said == payload for of, _, _, said in list(early.seen))
        client.plug_out()
        until(f"the will on {topic}", lambda: early.has(topic, payload, before + 1))
    until("Home Assistant sees it", lambda: assistant.has("tele/plug/LWT", "Offline", 2))
    assistant.say(("end", "", 1, False))
    until("the end", lambda: early.has("end"))
    late = Client("late", None, [("#", 1)])
    late.say(("end", "", 1, False))
    until("the end once more", lambda: late.has("end") and early.has("end", None, 2))
    for name, client in (("early", early), ("assistant", assistant), ("app", app), ("late", late)):
        print(json.dumps([name, client.seen]), flush=True)


main()
