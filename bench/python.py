"""The same work in Python's multiprocessing: prints one line of JSON per row, named as in the other files."""

import json
import sys
import time
from multiprocessing import Barrier, Pipe, Process, Queue
from statistics import median

ROUNDS = int(sys.argv[1])
ROWS = sys.argv[2:]

FLAT = {"id": 1, "name": "xiao"}
NESTED = {"id": 1, "user": {"name": "xiao", "tags": ["a", "b"]}, "at": {"x": 1, "y": -1}}
KIB = 1024
MIB = 1024 * KIB


def echo(conn):
    try:
        while True:
            conn.send(conn.recv())
    except EOFError:
        pass


def sink(conn, count, size):
    buffer = bytearray(size)
    try:
        while True:
            for _ in range(count):
                if size:
                    conn.recv_bytes_into(buffer)
                else:
                    conn.recv()
            conn.send("done")
    except EOFError:
        pass


def measure(name, count, target, args, work):
    if ROWS and not any(part in name for part in ROWS):
        return
    here, there = Pipe()
    process = Process(target=target, args=(there, *args))
    process.start()
    there.close()
    rates = []
    for i in range(ROUNDS + 2):
        start = time.perf_counter()
        work(here)
        if i >= 2:
            rates.append(count / (time.perf_counter() - start))
    process.terminate()
    process.join()
    here.close()
    print(json.dumps({"name": name, "rate": median(rates)}), flush=True)


def round_trip(name, value, count=1000):
    def work(conn):
        for _ in range(count):
            conn.send(value)
            conn.recv()

    measure(name, count, echo, (), work)


def one_way(names, value, count=5000):
    def work(conn):
        for _ in range(count):
            conn.send(value)
        conn.recv()

    for name in names:
        measure(name, count, sink, (count, 0), work)


def raw_bytes(names, size, count):
    data = bytes(size)

    def work(conn):
        for _ in range(count):
            conn.send_bytes(data)
        conn.recv()

    for name in names:
        measure(name, count, sink, (count, size), work)


def consume(q, done, together):
    while True:
        taken = 0
        while q.get() is not None:
            taken += 1
        done.put(taken)
        together.wait()  # the other marks are for the others


def produce(q, go, count, marks):
    while go.get():
        for _ in range(count):
            q.put(FLAT)
        for _ in range(marks):
            q.put(None)


def queue(name, consumers, from_worker=False, maxsize=0, count=10000, beside=None):
    """`consumers` 0: the owner consumes."""
    if ROWS and not any(part in name for part in ROWS):
        return
    q, go, done = Queue(maxsize), Queue(), Queue()
    together = Barrier(max(consumers, 1))
    processes = [Process(target=consume, args=(q, done, together), daemon=True) for _ in range(consumers)]
    if from_worker:
        processes.append(Process(target=produce, args=(q, go, count, consumers), daemon=True))
    for process in processes:
        process.start()
    rates = []
    for i in range(ROUNDS + 2):
        start = time.perf_counter()
        if from_worker:
            go.put(True)
        else:
            for _ in range(count):
                q.put(FLAT)
            for _ in range(consumers):
                q.put(None)
        if consumers:
            taken = sum(done.get() for _ in range(consumers))
            assert taken == count
        else:
            for _ in range(count):
                q.get()
        if i >= 2:
            rates.append(count / (time.perf_counter() - start))
    for process in processes:
        process.terminate()
    for each in (name, beside):
        if each:
            print(json.dumps({"name": each, "rate": median(rates)}), flush=True)


if __name__ == "__main__":
    round_trip("round trip, integer", 1)
    round_trip("round trip, {id, name}", FLAT)
    one_way(["send awaited, {id, name}", "send burst, {id, name}"], FLAT)
    one_way(["send burst, integers"], 1)
    one_way(["send burst, nested"], NESTED)
    raw_bytes(["bytes 64 B awaited", "bytes 64 B burst"], 64, 5000)
    for label, size, count in [("4 KiB", 4 * KIB, 3000), ("64 KiB", 64 * KIB, 500), ("1 MiB", MIB, 50), ("16 MiB", 16 * MIB, 2)]:
        raw_bytes([f"bytes {label}, recv_bytes", f"bytes {label}, recv_bytes_into"], size, count)
    queue("queue, owner to 1 worker", 1)
    queue("queue, owner to 2 workers", 2)
    queue("queue, owner to 4 workers", 4)
    queue("queue, maxsize 1000", 1, maxsize=1000)
    # Its put returns before the item is written: it stands beside put and put_many.
    queue("queue, worker to owner", 0, from_worker=True, beside="queue, worker to owner, put_many")
    queue("queue, worker to worker", 1, from_worker=True, beside="queue, worker to worker, put_many")
