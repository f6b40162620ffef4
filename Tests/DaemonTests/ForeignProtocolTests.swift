// Other protocols' first bytes: one error line at most, closed, and no command executed.

import Foundation
import Testing
import TestSupport

/// Test 21 of the reliability bar.
@Suite(.timed) struct ForeignProtocolTests {
    static let openings: [(name: String, bytes: [UInt8])] = [
        ("HTTP GET", text("GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("HTTP POST", text("POST /alloc HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n")),
        ("HTTP PUT in lower case", text("put / http/1.1\r\n\r\n")),
        ("HTTP OPTIONS", text("OPTIONS * HTTP/1.1\r\n")),
        ("HTTP CONNECT", text("CONNECT a:1 HTTP/1.1\r\n\r\n")),
        ("HTTP/2 preface", text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        ("Host header", text("Host: localhost\r\n")),
        ("SMTP", text("EHLO example.org\r\n")),
        ("RESP", text("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n")),
        ("memcached", text("set a 0 0 1\r\nb\r\n")),
        ("memcached get", text("get a\r\n")),
        ("PROXY", text("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n")),
        (
            "PROXY 2",
            [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, 0x21, 0x11]
        ),
        ("SSH", text("SSH-2.0-OpenSSH_9.2p1 Debian\r\n")),
        ("TLS 1.2", [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03]),
        ("JSON", text("{\"method\": \"alloc\"}\n")),
    ]

    @Test("is dropped, and nothing behind it is executed", arguments: [false, true])
    func dropped(tcp: Bool) throws {
        let daemon = try DaemonProcess(tcp: true)
        let body = Self.text("\nalloc evil 4\r\nwrite evil 0 1\r\nalloc worse 4\r\n")
        for (name, bytes) in Self.openings {
            let socket = try tcp ? daemon.connectTCP() : daemon.connect()
            try? socket.send(bytes + body)
            let output = String(
                decoding: (try? socket.receiveToEnd()) ?? Self.text("not closed\n"), as: UTF8.self)
            let lines = output.split(separator: "\n")
            #expect(lines.count <= 1, "\(name): \(output)")
            #expect(
                lines.allSatisfy { $0.hasPrefix("ERR notSmalloc Error: ") }, "\(name): \(output)")
        }
        #expect(try daemon.text().ask("list") == "OK 0")
    }

    @Test("is dropped before a whole line has come, if its first byte is no text")
    func droppedAtOnce() throws {
        let daemon = try DaemonProcess()
        for byte in [0x00, 0x01, 0x16, 0x1B, 0x1F] as [UInt8] {
            let socket = try daemon.connect(seconds: 5)
            try socket.send([byte, 0x03, 0x01])
            let output = String(decoding: try socket.receiveToEnd(), as: UTF8.self)
            #expect(output.hasPrefix("ERR notSmalloc Error: "), "\(byte): \(output)")
        }
    }

    private static func text(_ string: String) -> [UInt8] { Array(string.utf8) }
}
