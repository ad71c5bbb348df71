"""The rocketmq source against a real Apache RocketMQ on loopback. Not named rocketmq: a package of that name is imported."""
