"""A local tool on paho-mqtt, which does what it is told on its standard input and leaves with DISCONNECT at its end.

    paho_tool.py PORT VERSION NAME CLEAN WILL

VERSION is 3.1.1 or 5, CLEAN 1 or 0 (the session is kept), WILL the topic of a will that says `gone`, or -. Told are

    subscribe QOS FILTER          answered with: granted CODE
    unsubscribe FILTER            answered with: unsubscribed
    publish QOS RETAIN TOPIC TEXT answered with: published, once it is acknowledged

and it says `connected PRESENT` (1 where the gateway had the session) and `message QOS RETAIN TOPIC TEXT`. All the tools do.
"""

import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT, VERSION, NAME, CLEAN, WILL = sys.argv[1:]


def say(*words):
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def on_connect(_client, _data, flags, reason, _properties):
    if reason.is_failure:
        say("refused", reason)
    else:
        say("connected", int(flags.session_present))


def on_subscribe(_client, _data, _mid, reasons, _properties):
    say("granted", *(reason.value for reason in reasons))


def on_unsubscribe(_client, _data, _mid, _reasons, _properties):
    say("unsubscribed")


def on_message(_client, _data, message):
    say("message", message.qos, int(message.retain), message.topic, message.payload.decode())


arguments = {"client_id": NAME, "protocol": mqtt.MQTTv5 if VERSION == "5" else mqtt.MQTTv311}
if VERSION != "5":
    arguments["clean_session"] = CLEAN == "1"
tool = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **arguments)
tool.on_connect = on_connect
tool.on_subscribe = on_subscribe
tool.on_unsubscribe = on_unsubscribe
tool.on_message = on_message
if WILL != "-":
    tool.will_set(WILL, "gone", qos=1)
if VERSION == "5":
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 0 if CLEAN == "1" else 3600
    tool.connect("127.0.0.1", int(PORT), clean_start=CLEAN == "1", properties=session)
else:
    tool.connect("127.0.0.1", int(PORT))
tool.loop_start()
for line in sys.stdin:
    word, *rest = line.split()
    if word == "subscribe":
        tool.subscribe(rest[1], qos=int(rest[0]))
    elif word == "unsubscribe":
        tool.unsubscribe(rest[0])
    elif word == "publish":
        qos, retain, topic, text = rest
        tool.publish(topic, text, qos=int(qos), retain=retain == "1").wait_for_publish(20)
        say("published")
tool.disconnect()
tool.loop_stop()
