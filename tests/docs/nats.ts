// What the documentation uses of `@nats-io/transport-node` and `@nats-io/jetstream`, in one process: its
// code is run without a server.

/** A message. */
export interface JsMsg {
  json<T>(): T;
  ack(): void;
  nak(): void;
}

const published: string[] = [];

/** A connection. */
export interface NatsConnection {
  drain(): Promise<void>;
}

/** Connects. */
export function connect(
  _options: { servers: string },
): Promise<NatsConnection> {
  return Promise.resolve({ drain: () => Promise.resolve() });
}

interface Messages extends AsyncIterable<JsMsg> {
  close(): void;
}

/** As a real one, it ends only when it is closed. */
function messages(): Messages {
  const closed = Promise.withResolvers<void>();
  async function* take(): AsyncGenerator<JsMsg> {
    for (let text; (text = published.shift());) {
      const body = text;
      yield await Promise.resolve({
        json: <T>() => JSON.parse(body) as T,
        ack() {},
        nak() {},
      });
    }
    await closed.promise;
  }
  return Object.assign(take(), { close: closed.resolve });
}

/** What JetStream does. */
export interface JetStream {
  publish(subject: string, payload: string): Promise<unknown>;
  consumers: {
    get(stream: string, consumer: string): Promise<{
      consume(
        options: { max_messages: number },
      ): Promise<Messages>;
    }>;
  };
}

/** JetStream. */
export function jetstream(_connection: NatsConnection): JetStream {
  return {
    publish: (_subject, payload) => Promise.resolve(published.push(payload)),
    consumers: {
      get: () =>
        Promise.resolve({ consume: () => Promise.resolve(messages()) }),
    },
  };
}
