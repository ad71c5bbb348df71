"""Commands to devices, against a real Mosquitto and a real RocketMQ broker."""
