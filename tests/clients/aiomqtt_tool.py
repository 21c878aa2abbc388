"""A local tool on aiomqtt. What it is told and what it says is as in paho_tool.py, but it does not know whether the gateway had the
session: PRESENT is -.

    aiomqtt_tool.py PORT VERSION NAME CLEAN WILL
"""

import asyncio
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT, VERSION, NAME, CLEAN, WILL = sys.argv[1:]


def say(*words):
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def client():
    will = aiomqtt.Will(WILL, "gone", qos=1) if WILL != "-" else None
    arguments = {"hostname": "127.0.0.1", "port": int(PORT), "identifier": NAME, "will": will}
    if VERSION == "5":
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 0 if CLEAN == "1" else 3600
        protocol = aiomqtt.ProtocolVersion.V5
        return aiomqtt.Client(protocol=protocol, clean_start=CLEAN == "1", properties=session, **arguments)
    return aiomqtt.Client(protocol=aiomqtt.ProtocolVersion.V311, clean_session=CLEAN == "1", **arguments)


async def listen(tool):
    async for message in tool.messages:
        say("message", message.qos, int(message.retain), message.topic, message.payload.decode())


async def obey(tool, line):
    word, *rest = line.split()
    if word == "subscribe":
        reasons = await tool.subscribe(rest[1], qos=int(rest[0]))
        say("granted", *(getattr(reason, "value", reason) for reason in reasons))
    elif word == "unsubscribe":
        await tool.unsubscribe(rest[0])
        say("unsubscribed")
    elif word == "publish":
        qos, retain, topic, text = rest
        await tool.publish(topic, text, qos=int(qos), retain=retain == "1")
        say("published")


async def main():
    loop = asyncio.get_running_loop()
    async with client() as tool:
        say("connected", "-")
        listening = asyncio.create_task(listen(tool))
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await obey(tool, line)
        listening.cancel()


asyncio.run(main())
