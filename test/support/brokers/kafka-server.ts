/**
 * A real Apache Kafka broker (KRaft, one node) on the machine's Java; its jars come by Maven (45 MB, kept in
 * ~/.cache/pg-events). It listens in plain text, by TLS with a client certificate, and with a login.
 */
import { randomBytes } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { certificateAuthority, type IssuedCertificate } from "../certificates.ts";
import { freePort } from "../cluster/free-port.ts";
import { runTool } from "../cluster/tool.ts";
import type { TestEnd } from "../postgres.ts";
import { cachedPrograms, missing } from "../program-cache.ts";
import { type BrokerProcess, startBroker } from "./broker-process.ts";

const POM = join(import.meta.dirname, "kafka/pom.xml");
const INSTALL =
  "Install a Java runtime 17 or later and Maven: the first run downloads Apache Kafka by Maven.";
const JAVA = ["-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

export const KAFKA_LOGIN = { username: "alice", password: "alice-secret-4711" };

export interface KafkaServer extends BrokerProcess {
  /** host:port, plain text without a login. */
  readonly plain: string;
  /** By TLS, of the authority `ca`; wants `client` as a certificate. */
  readonly tls: string;
  /** Plain text with KAFKA_LOGIN, by PLAIN and SCRAM. */
  readonly sasl: string;
  /** PEM. */
  readonly ca: string;
  readonly client: IssuedCertificate;
}

/** Why the tests that need it are skipped; false when they are not. @throws Error with CI set, when it cannot be had */
export function kafkaMissing(): Promise<string | false> {
  return missing(kafkaJars(), `No Apache Kafka. ${INSTALL}`);
}

/** Stopped after the test, or after the tests of a suite. @param host where it listens */
export async function kafkaServer(t: TestEnd, host = "127.0.0.1"): Promise<KafkaServer> {
  const jars = await kafkaJars();
  if (jars === null) throw new Error(INSTALL);
  const directory = mkdtempSync(join(tmpdir(), "pg-events-kafka-"));
  const authority = certificateAuthority("kafka");
  const ports = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const [plain, tls, sasl] = ports;
  const config = join(directory, "server.properties");
  writeFileSync(
    config,
    settings(directory, host, ports, authority.cert, authority.issue([host, "localhost"])),
  );
  const { username, password } = KAFKA_LOGIN;
  const scram = ["256", "512"].flatMap((bits) => [
    "--add-scram",
    `SCRAM-SHA-${bits}=[name=${username},password=${password}]`,
  ]);
  const classpath = ["-cp", join(jars, "*")];
  const id = randomBytes(16).toString("base64url");
  const format = ["kafka.tools.StorageTool", "format", "-t", id, "-c", config, ...scram];
  await runTool("java", [...JAVA, ...classpath, ...format], {});
  const args = [...JAVA, ...classpath, "kafka.Kafka", config];
  const broker = await startBroker({ file: "java", args, directory, host, port: plain });
  t.after(() => broker.stop());
  return {
    ...broker,
    plain: `${host}:${plain}`,
    tls: `${host}:${tls}`,
    sasl: `${host}:${sasl}`,
    ca: authority.cert,
    client: authority.issue(["client"]),
  };
}

function settings(
  directory: string,
  host: string,
  [plain, tls, sasl, controller]: readonly [number, number, number, number],
  ca: string,
  { cert, key }: IssuedCertificate,
): string {
  const at = (name: string, port: number) => `${name}://${host}:${port}`;
  const listeners = [at("PLAINTEXT", plain), at("SSL", tls), at("SASL_PLAINTEXT", sasl)];
  const pem = (text: string) => text.trim().replaceAll("\n", "\\n");
  const login = "org.apache.kafka.common.security";
  const { username, password } = KAFKA_LOGIN;
  return Object.entries({
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@${host}:${controller}`,
    "controller.listener.names": "CONTROLLER",
    listeners: [...listeners, at("CONTROLLER", controller)].join(","),
    "advertised.listeners": listeners.join(","),
    "listener.security.protocol.map":
      "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": join(directory, "data"),
    "ssl.keystore.type": "PEM",
    "ssl.keystore.certificate.chain": pem(cert),
    "ssl.keystore.key": pem(key),
    "ssl.truststore.type": "PEM",
    "ssl.truststore.certificates": pem(ca),
    "ssl.client.auth": "required",
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    "listener.name.sasl_plaintext.plain.sasl.jaas.config": `${login}.plain.PlainLoginModule required user_${username}="${password}";`,
    "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config": `${login}.scram.ScramLoginModule required;`,
    "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": `${login}.scram.ScramLoginModule required;`,
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "allow.everyone.if.no.acl.found": "true",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "200",
    "auto.create.topics.enable": "false",
    "message.max.bytes": "8000000",
    "num.partitions": "1",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}

/** Directory of the jars; null when they are not there and there is no Java or no Maven. @throws Error with Maven's output */
async function kafkaJars(): Promise<string | null> {
  const version = /<version>(\d\S+)<\/version>\s*<\/dependency>/.exec(readFileSync(POM, "utf8"))?.[1] ?? "";
  try {
    await runTool("java", ["-version"], {});
    return await cachedPrograms(`kafka-${version}`, async (unfinished) => {
      const pom = join(unfinished, "pom.xml");
      copyFileSync(POM, pom); // Maven writes beside it
      const output = `-DoutputDirectory=${unfinished}`;
      await runTool("mvn", ["-q", "-B", "-f", pom, "dependency:copy-dependencies", output], {});
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
