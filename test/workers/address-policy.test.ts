import type { LookupAddress } from "node:dns";
import { afterEach, describe, expect, test } from "vitest";
import { createAddressPolicy } from "../../server/workers/address-policy.ts";
import type { Lookup } from "../../server/workers/connector.ts";
import { createSender, type Sender } from "../../server/workers/send.ts";
import type { WorkerSettings } from "../../server/workers/settings.ts";
import { makeCertificate } from "../helpers/certificate.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";

describe("which addresses may be connected to", () => {
  const production = createAddressPolicy({ mode: "production", allowedNetworks: [] });
  const development = createAddressPolicy({ mode: "development", allowedNetworks: [] });

  test.each([
    // address, allowed in production, allowed in development
    ["8.8.8.8", true, true],
    ["172.15.255.255", true, true],
    ["2606:4700:4700::1111", true, true],
    ["::ffff:8.8.8.8", true, true],
    ["127.0.0.1", false, true],
    ["127.8.8.8", false, true],
    ["::1", false, true],
    ["::ffff:127.0.0.1", false, true],
    ["10.0.0.1", false, true],
    ["172.16.0.1", false, true],
    ["192.168.1.1", false, true],
    ["::ffff:192.168.1.1", false, true],
    ["fd00::1", false, true],
    ["fd00:ec2::254", false, true],
    ["169.254.169.254", false, false],
    ["::ffff:169.254.169.254", false, false],
    ["fe80::1", false, false],
    ["fe80::1%eth0", false, false],
    ["0.0.0.0", false, false],
    ["::", false, false],
    ["100.64.0.1", false, false],
    ["192.0.2.1", false, false],
    ["198.18.0.1", false, false],
    ["224.0.0.1", false, false],
    ["240.0.0.1", false, false],
    ["255.255.255.255", false, false],
    ["::127.0.0.1", false, true],
    ["64:ff9b::7f00:1", false, false],
    ["64:ff9b:1::1", false, false],
    ["2002:7f00:1::", false, false],
    ["2001::1", false, false],
    ["2001:db8::1", false, false],
    ["ff02::1", false, false],
    ["fec0::1", false, false],
    ["4000::1", false, false],
    ["no address", false, false],
  ])("%s: production %s, development %s", (address, inProduction, inDevelopment) => {
    expect(production.isAllowed(address)).toBe(inProduction);
    expect(development.isAllowed(address)).toBe(inDevelopment);
  });

  test("http is for development alone, other protocols for nobody", () => {
    expect(production.refuseTarget("https:", "example.com")).toBeNull();
    expect(production.refuseTarget("http:", "example.com")).toContain("https");
    expect(development.refuseTarget("http:", "example.com")).toBeNull();
    expect(development.refuseTarget("ftp:", "example.com")).toContain("https");
  });

  test("an allowed network opens its addresses in either clothes, and keeps https required", () => {
    const policy = createAddressPolicy({
      mode: "production",
      allowedNetworks: ["10.1.0.0/16", "fd12::/16", "169.254.169.254/32"],
    });
    for (const address of ["10.1.2.3", "::ffff:10.1.2.3", "fd12::5", "169.254.169.254", "8.8.8.8"]) {
      expect([address, policy.isAllowed(address)]).toEqual([address, true]);
    }
    for (const address of ["10.2.0.1", "fd13::5", "127.0.0.1"]) {
      expect([address, policy.isAllowed(address)]).toEqual([address, false]);
    }
    expect(policy.refuseTarget("http:", "10.1.2.3")).toContain("https");
    expect(policy.refuseTarget("https:", "10.1.2.3")).toBeNull();
  });

  test("a network that is no CIDR is named", () => {
    expect(() =>
      createAddressPolicy({ mode: "production", allowedNetworks: ["10.0.0.0/8", "10.0.0.0"] }),
    ).toThrow('allowed network "10.0.0.0" is no CIDR');
  });
});

describe("what is connected to", () => {
  let receiver: Receiver | undefined;
  let sender: Sender | undefined;
  afterEach(async () => {
    await sender?.close();
    await receiver?.close();
    receiver = undefined;
    sender = undefined;
  });

  const certificate = makeCertificate(["localhost", "127.0.0.1", "rebind.test"]);
  const settings = (changes: Partial<WorkerSettings>): WorkerSettings => ({
    mode: "production",
    allowedNetworks: [],
    caPem: certificate.cert,
    egressProxy: null,
    version: "1.2.3",
    transformTimeoutMs: 250,
    ...changes,
  });
  const answers =
    (...addresses: LookupAddress[]): Lookup =>
    (_hostname, callback) =>
      setImmediate(callback, null, addresses);
  const v4 = (address: string) => ({ address, family: 4 });
  const v6 = (address: string) => ({ address, family: 6 });
  const post = (url: string) => {
    const body = new TextEncoder().encode("{}");
    return sender!.post({ url, headers: [], body, timeoutMs: 2_000, responseBytesMax: 65_536 });
  };

  test.each<[string, string, Lookup]>([
    ["a literal", "127.0.0.1", answers()],
    ["localhost", "localhost", answers(v4("127.0.0.1"))],
    ["a name that stands for loopback", "rebind.test", answers(v4("127.0.0.1"))],
    [
      "a name with a public and a closed address",
      "rebind.test",
      answers(v6("2606:4700::1111"), v4("127.0.0.1")),
    ],
    ["a mapped IPv6 literal", "[::ffff:127.0.0.1]", answers()],
    ["a mapped IPv6 answer", "rebind.test", answers(v6("::ffff:127.0.0.1"))],
    ["a host written as one number", "2130706433", answers()],
    ["a host in octal and hexadecimal", "0177.0.0x1", answers()],
    ["a NAT64 literal", "[64:ff9b::7f00:1]", answers()],
    ["the metadata service of clouds", "169.254.169.254", answers()],
    ["shared address space", "100.64.0.1", answers()],
    ["the unspecified address", "0.0.0.0", answers()],
    ["IPv6 loopback", "[::1]", answers()],
  ])("production: %s is refused, and no connection is made", async (_case, host, lookup) => {
    receiver = await startReceiver({ certificate });
    sender = createSender(settings({}), lookup);
    const result = await post(`https://${host}:${receiver.port}/hook?token=s3cret`);
    expect(result).toMatchObject({ kind: "failed", errorKind: "address_not_allowed", response: null });
    expect(JSON.stringify(result)).not.toContain("s3cret");
    expect(receiver.connectionCount()).toBe(0);
  });

  test("what a name stands for is not told", async () => {
    sender = createSender(settings({}), answers(v4("10.20.30.40")));
    expect(JSON.stringify(await post("https://rebind.test/"))).not.toContain("10.20.30.40");
  });

  test("production: http is refused even for a public address", async () => {
    sender = createSender(settings({}), answers(v4("8.8.8.8")));
    expect(await post("http://rebind.test/")).toMatchObject({ errorKind: "address_not_allowed" });
  });

  test("production: an allowed network is sent to over https", async () => {
    receiver = await startReceiver({ certificate });
    sender = createSender(settings({ allowedNetworks: ["127.0.0.0/8"] }), answers(v4("127.0.0.1")));
    expect(await post(`https://rebind.test:${receiver.port}/hook`)).toMatchObject({ kind: "succeeded" });
    expect(await post(`http://127.0.0.1:${receiver.port}/hook`)).toMatchObject({
      errorKind: "address_not_allowed",
    });
  });

  test("a name that turns to a closed address is refused on its next connection", async () => {
    receiver = await startReceiver({ certificate });
    let address = "127.0.0.1";
    sender = createSender(settings({ allowedNetworks: ["127.0.0.1/32"] }), (_name, callback) =>
      setImmediate(callback, null, [v4(address)]),
    );
    const url = `https://rebind.test:${receiver.port}/hook`;
    expect(await post(url)).toMatchObject({ kind: "succeeded" });
    address = "127.0.0.2";
    receiver.closeIdleConnections();
    await expect.poll(() => receiver!.openConnectionCount()).toBe(0);
    expect(await post(url)).toMatchObject({ errorKind: "address_not_allowed" });
    expect(receiver.requests).toHaveLength(1);
  });

  test("development: loopback is sent to over http and https, link-local is not", async () => {
    receiver = await startReceiver();
    sender = createSender(settings({ mode: "development" }));
    expect(await post(receiver.url)).toMatchObject({ kind: "succeeded" });
    expect(await post("http://169.254.169.254/latest/meta-data")).toMatchObject({
      errorKind: "address_not_allowed",
    });
  });
});
