"""A device on paho-mqtt: publishes as fast as it is acknowledged, until "stop" comes on standard input.

    paho_publisher.py PORT VERSION QOS NAME TOPIC WINDOW COUNT

VERSION is 3.1.1 or 5, COUNT how many events to send at most. Writes `ack N` for each event acknowledged, and
`done SENT` at the end. Payloads are those of the oracle. One thread: paho's own would let a publish overtake
the resending of older ones after a reconnect.
"""

import select
import sys
import time
import zlib

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT, VERSION, QOS, NAME, TOPIC, WINDOW, COUNT = sys.argv[1:]
PORT, QOS, WINDOW, COUNT = int(PORT), int(QOS), int(WINDOW), int(COUNT)


def payload(count):
    body = f"{NAME}:{count:010}:".ljust(31, ".") + ":"
    return f"{body}{zlib.crc32(body.encode()):08x}"


class Device:
    def __init__(self):
        self.connected = False
        self.pending = {}
        self.early = set()
        self.acknowledged = []
        self.sent = 0
        arguments = {"client_id": NAME, "protocol": mqtt.MQTTv5 if VERSION == "5" else mqtt.MQTTv311}
        if VERSION != "5":
            arguments["clean_session"] = False
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **arguments)
        self.client.max_inflight_messages_set(WINDOW)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect
        self.client.on_publish = self.on_publish

    def on_connect(self, _client, _data, _flags, reason, _properties):
        self.connected = not reason.is_failure

    def on_disconnect(self, _client, _data, _flags, _reason, _properties):
        self.connected = False

    def on_publish(self, _client, _data, mid, reason, _properties):
        if reason.is_failure:
            sys.exit(f"{NAME}: refused: {reason}")
        if mid in self.pending:
            self.acknowledged.append(self.pending.pop(mid))
        else:
            # With QoS 0 it is published before publish() has said its message id.
            self.early.add(mid)

    def connect(self):
        try:
            if VERSION == "5":
                session = Properties(PacketTypes.CONNECT)
                session.SessionExpiryInterval = 3600
                self.client.connect("127.0.0.1", PORT, clean_start=False, properties=session)
            else:
                self.client.connect("127.0.0.1", PORT)
        except OSError:
            time.sleep(0.02)

    def publish(self):
        while self.connected and len(self.pending) < WINDOW and self.sent < COUNT:
            info = self.client.publish(TOPIC, payload(self.sent), qos=QOS)
            if info.mid in self.early:
                self.early.remove(info.mid)
                self.acknowledged.append(self.sent)
            else:
                self.pending[info.mid] = self.sent
            self.sent += 1

    def run(self):
        stopping = False
        self.connect()
        while True:
            stopping = stopping or bool(select.select([sys.stdin], [], [], 0)[0])
            if not stopping:
                self.publish()
            if self.client.loop(timeout=0.05) != mqtt.MQTT_ERR_SUCCESS:
                self.connected = False
                self.connect()
            if self.acknowledged:
                print("\n".join(f"ack {count}" for count in self.acknowledged), flush=True)
                self.acknowledged.clear()
            if not self.pending and (stopping or self.sent == COUNT):
                break
        self.client.disconnect()
        print(f"done {self.sent}", flush=True)


Device().run()
