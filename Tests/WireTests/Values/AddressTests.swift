import SmallocWire
import Testing
import TestSupport

@Suite("Addresses", .timed)
struct AddressTests {
    static let good: [(String, Address)] = [
        ("unix:/run/a.sock", .unix(path: "/run/a.sock")),
        ("unix:relative", .unix(path: "relative")),
        ("unix:/with:colon", .unix(path: "/with:colon")),
        ("tcp:localhost:1", .tcp(host: "localhost", port: 1)),
        ("tcp:127.0.0.1:65535", .tcp(host: "127.0.0.1", port: 65_535)),
        ("tcp:[::1]:80", .tcp(host: "::1", port: 80)), ("tcp:h:0", .tcp(host: "h", port: 0)),
        ("tcp:*:7", .tcp(host: "*", port: 7)), ("tcp:a-b_c.d:7", .tcp(host: "a-b_c.d", port: 7)),
        ("tcp:[fe80::1%eth0]:9", .tcp(host: "fe80::1%eth0", port: 9)),
    ]

    @Test("connection strings are read, and read back from what is printed", arguments: good)
    func reads(_ example: (text: String, address: Address)) {
        #expect(Address(example.text) == example.address)
        #expect("\(example.address)" == example.text)
        #expect(Address("\(example.address)") == example.address)
    }

    @Test(
        "what is no connection string is refused",
        arguments: [
            "", "unix:", "unix", "tcp:", "tcp:host", "tcp:host:", "tcp::80", "tcp:host:65536",
            "tcp:host:-1", "tcp:host:+1", "tcp:host:x", "tcp:::1:80", "tcp:[]:80", "udp:h:1",
            "/run/a.sock", "TCP:h:1", "tcp:h:1 ", "tcp:h:0x10", "unix:/a\0b", "tcp:a\0b:1",
            "tcp:h:99999999999999999999", "tcp:h:１", "tcp://127.0.0.1:80", "tcp:h/:80", "tcp: h:80",
            "tcp:h,tcp:i:80", "tcp:hé:80", "tcp:h\n:80", "tcp:**:80", "tcp:[*:]:80", "tcp:u@h:80",
        ])
    func refuses(_ text: String) { #expect(Address(text) == nil) }

    @Test("the standard address is in the runtime directory if there is one")
    func standard() {
        #expect(
            Address.standard(runtimeDirectory: "/run/user/1")
                == .unix(path: "/run/user/1/smallocd.sock"))
        for none in [nil, ""] {
            #expect(
                Address.standard(runtimeDirectory: none)
                    == .unix(path: "/run/smallocd/smallocd.sock"))
        }
    }
}
