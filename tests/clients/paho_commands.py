"""A device on paho-mqtt that does what it is told, until its standard input ends.

    paho_commands.py PORT VERSION NAME

VERSION is 3.1.1 or 5. It keeps its session, subscribes to its commands with QoS 1, writes `ready` once it has, `got ID PAYLOAD`
for each command (ID is - where there is none), and answers `done PAYLOAD` on its reply topic. It connects again by itself.
"""

import select
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT, VERSION, NAME = sys.argv[1:]


def on_connect(client, _data, _flags, reason, _properties):
    if not reason.is_failure:
        client.subscribe(f"tg/{NAME}/c", qos=1)


def on_subscribe(_client, _data, _mid, _reasons, _properties):
    print("ready", flush=True)


def on_message(client, _data, message):
    payload = message.payload.decode()
    correlation = getattr(message.properties, "CorrelationData", None) if VERSION == "5" else None
    topic = getattr(message.properties, "ResponseTopic", None) if VERSION == "5" else None
    print("got", correlation.decode() if correlation else "-", payload, flush=True)
    properties = None
    if correlation:
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = correlation
    client.publish(topic or f"tg/{NAME}/r", f"done {payload}", qos=1, properties=properties)


def connect(client):
    try:
        if VERSION == "5":
            session = Properties(PacketTypes.CONNECT)
            session.SessionExpiryInterval = 3600
            client.connect("127.0.0.1", int(PORT), clean_start=False, properties=session)
        else:
            client.connect("127.0.0.1", int(PORT))
    except OSError:
        time.sleep(0.02)


arguments = {"client_id": NAME, "protocol": mqtt.MQTTv5 if VERSION == "5" else mqtt.MQTTv311}
if VERSION != "5":
    arguments["clean_session"] = False
device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **arguments)
device.on_connect = on_connect
device.on_subscribe = on_subscribe
device.on_message = on_message
connect(device)
while not select.select([sys.stdin], [], [], 0)[0]:
    if device.loop(timeout=0.05) != mqtt.MQTT_ERR_SUCCESS:
        connect(device)
device.disconnect()
