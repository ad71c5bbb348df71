"""Good brokers, for what happens when a bad one is well again."""

from tests.amqp.conftest import one_broker, shared_broker
from tests.mq.conftest import broker, publisher, rocketmq, source, topic

__all__ = ["broker", "one_broker", "publisher", "rocketmq", "shared_broker", "source", "topic"]
