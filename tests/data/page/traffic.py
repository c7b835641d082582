"""Asks for / again and again over one connection at a time: traffic.py HOST PORT."""

import http.client
import sys
import time

PAUSE_SECONDS = 0.004

while True:
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
    try:
        for path in ["/", "/", "/cart", "/health"] * 50:
            connection.request("GET", path)
            connection.getresponse().read()
            time.sleep(PAUSE_SECONDS)
    except (OSError, http.client.HTTPException):
        time.sleep(PAUSE_SECONDS)
    finally:
        connection.close()
