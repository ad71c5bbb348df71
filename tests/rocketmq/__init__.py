"""The rocketmq source against a real Apache RocketMQ on loopback."""
