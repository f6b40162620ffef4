// The HTTP listener, as browsers, collectors and attackers reach it.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct HTTPTests {
    private static let documents = [
        "/namespaces.json", "/allocations.json", "/clients.json", "/slowlog.json", "/",
    ]

    @Test("without the setting nothing listens, and the port of the data never speaks HTTP")
    func off() throws {
        let daemon = try DaemonProcess(tcp: true)
        let socket = try daemon.connectTCP()
        try socket.send(Array("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
        #expect(try socket.receiveLine().hasPrefix("ERR notSmalloc"))
        #expect(!daemon.log.contains("HTTP"))
    }

    @Test("a Host that is not the machine's own is refused over TCP, as is none and a second one")
    func hosts() throws {
        let http = try HTTPDaemon(tcp: true)
        defer { http.end() }
        let port = try #require(http.port)
        for host in [
            "127.0.0.1:\(port)", "localhost:\(port)", "LocalHost:\(port)", "[::1]:\(port)",
        ] {
            #expect(try http.get("/healthz", host: host).status == 200, "\(host)")
        }
        for host in [
            "127.0.0.1", "localhost", "evil.example:\(port)", "127.0.0.1:\(port + 1)", "",
            "localhost.evil.example:\(port)", "127.0.0.1:\(port)@evil.example", "0.0.0.0:\(port)",
        ] {
            for path in ["/healthz", "/metrics", "/stats.json", "/", "/nothing"] {
                let answer = try http.get(path, host: host)
                #expect(answer.status == 403, "\(host)")
                #expect(answer.text.hasPrefix("The Host header"))
            }
        }
        for headers in [[], ["Host: localhost:\(port)", "Host: evil.example"]] {
            let socket = try http.connect()
            try socket.send(HTTPDaemon.request("/metrics", headers))
            #expect(try HTTPAnswer(from: socket).status == 403)
        }
        // No browser reaches a Unix socket.
        let unix = try HTTPDaemon()
        defer { unix.end() }
        #expect(try unix.get("/healthz", host: "anything").status == 200)
    }

    @Test("only GET and HEAD are answered, and every answer forbids what it should")
    func methods() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
            let answer = try http.get("/metrics", method: method, ["Content-Length: 0"])
            #expect(answer.status == 405 && answer.headers["allow"] == "GET, HEAD", "\(method)")
        }
        for path in ["/", "/metrics", "/healthz", "/stats.json", "/allocations.json", "/nothing"] {
            let head = try http.get(path, method: "HEAD")
            let answer = try http.get(path, ["Origin: http://evil.example"])
            #expect(head.status == answer.status && head.body.isEmpty)
            #expect(head.headers["content-type"] == answer.headers["content-type"])
            #expect(answer.headers["cache-control"] == "no-store")
            #expect(answer.headers["x-content-type-options"] == "nosniff")
            #expect(answer.headers["cross-origin-resource-policy"] == "same-origin")
            #expect(answer.headers.keys.allSatisfy { !$0.hasPrefix("access-control") })
            #expect(answer.status == (path == "/nothing" ? 404 : 200))
        }
        let page = try http.get("/")
        let policy = try #require(page.headers["content-security-policy"])
        #expect(policy.contains("default-src 'none'"))
        #expect(policy.hasSuffix("frame-ancestors 'none'") && !policy.contains("unsafe"))
        #expect(page.headers["content-type"] == "text/html; charset=utf-8")
        #expect(page.body.count > 100 && page.body.count <= 60 << 10)
    }

    @Test("names are told over a Unix socket, over TCP only where it is set")
    func names() throws {
        let shy = try HTTPDaemon(tcp: true)
        defer { shy.end() }
        #expect(try shy.daemon.text().ask("alloc secret/name 4") == "OK")
        for path in HTTPTests.documents {
            let answer = try shy.get(path)
            #expect(answer.status == 403 && answer.text.contains("http-names: yes"), "\(path)")
        }
        #expect(try shy.get("/stats.json").json["names"] as? Bool == false)
        for path in ["/metrics", "/stats.json", "/healthz"] {
            #expect(try !shy.get(path).text.contains("secret/name"), "\(path)")
        }
        for http in [try HTTPDaemon(), try HTTPDaemon(tcp: true, ["--http-names", "yes"])] {
            defer { http.end() }
            #expect(try http.daemon.text().ask("alloc open/name 4") == "OK")
            #expect(try http.get("/allocations.json").text.contains("open/name"))
            #expect(try http.get("/stats.json").json["names"] as? Bool == true)
        }
    }

    @Test("what is no request is refused, and the daemon goes on")
    func malformed() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let inputs = [
            "\r\n\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "GET /" + String(repeating: "a", count: 100_000) + " HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n" + String(repeating: "A: b\r\n", count: 20_000) + "\r\n",
            "\u{E5}\u{01}\u{01}",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
        ]
        for input in inputs {
            let socket = try http.connect(seconds: 5)
            try? socket.send(Array(input.utf8))
            socket.endOutput()
            let answer = (try? socket.receiveToEnd()) ?? []
            #expect(!String(decoding: answer, as: UTF8.self).contains("HTTP/1.1 200"), "\(input)")
            #expect(try http.get("/healthz").text == "ok\n")
        }
        for target in [
            "/allocations.json?limit=0", "/allocations.json?limit=-1", "/allocations.json?sort=x",
            "/allocations.json?limit=99999999999999999999", "/allocations.json?limit=",
            "/allocations.json?prefix=" + String(repeating: "a", count: 256),
        ] {
            #expect(try http.get(target).status == 400, "\(target)")
        }
        #expect(http.daemon.isRunning)
    }

    @Test(
        "a hundred connections that say nothing, or little by little, are bounded",
        .timed(seconds: 90))
    func slow() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let before = try http.daemon.figures().descriptors
        let silent = try (0..<100).map { _ in try http.connect() }
        // Those that came first may have been ended for the last ones.
        for socket in silent { _ = try? socket.send(Array("GET /metrics HT".utf8)) }
        usleep(300_000)
        #expect(try http.daemon.figures().descriptors <= before + 66)
        // The data is served meanwhile.
        #expect(try http.daemon.text().ask("ping") == "OK pong")
        // One that goes on byte by byte never ends its request.
        let start = Date()
        var answered = false
        while Date().timeIntervalSince(start) < 8, !answered {
            for socket in silent.prefix(30) { _ = try? socket.send([0x41]) }
            let late = try? http.connect(seconds: 1)
            try? late?.send(HTTPDaemon.request("/healthz", ["Host: a", "Connection: close"]))
            answered = late.flatMap { try? HTTPAnswer(from: $0).status } == 200
        }
        #expect(answered, "slow clients keep others out for ever")
        #expect(
            eventually(within: 30) {
                ((try? http.daemon.figures().descriptors) ?? 999) <= before + 5
            })
    }

    @Test("many requests on one connection, and a hundred connections one after another")
    func many() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let socket = try http.connect()
        for _ in 0..<100 {
            try socket.send(HTTPDaemon.request("/healthz", ["Host: a"]))
            #expect(try HTTPAnswer(from: socket).text == "ok\n")
        }
        for _ in 0..<100 { #expect(try http.get("/healthz").status == 200) }
    }

    @Test("a stop is told to who is connected, and waits for no client of HTTP")
    func stop() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let idle = try http.connect()
        try idle.send(Array("GET /metrics HTTP/1.1\r\nHost".utf8))
        let kept = try http.connect()
        try kept.send(HTTPDaemon.request("/healthz", ["Host: a"]))
        #expect(try HTTPAnswer(from: kept).status == 200)
        // A reader that does not read holds the stop up for a second and a half.
        let client = try http.daemon.frames()
        let size: UInt64 = 32 << 20
        _ = try client.alloc("a", size: size)
        try client.socket.send(TestFrame(8, cookie: 1, name: "a", size: size).bytes)
        _ = try client.socket.receive(exactly: 1)
        let start = Date()
        http.daemon.signal(SIGTERM)
        usleep(200_000)
        try kept.send(HTTPDaemon.request("/healthz", ["Host: a"]))
        let answer = try HTTPAnswer(from: kept)
        #expect(answer.status == 503 && answer.text == "stopping\n")
        #expect(!FileManager.default.fileExists(atPath: http.path))
        #expect(throws: RawSocketError.self) { try http.connect() }
        #expect(http.daemon.waitForExit() == 0)
        #expect(Date().timeIntervalSince(start) < 2.5)
        // Nothing else to wait for: it is gone at once.
        let quick = try HTTPDaemon(tcp: true)
        defer { quick.end() }
        let open = try quick.connect()
        try open.send(Array("GET ".utf8))
        let begun = Date()
        #expect(quick.daemon.stop() == 0)
        #expect(Date().timeIntervalSince(begun) < 1)
    }

    @Test("the socket is the user's alone, and an address in use is told as others are")
    func address() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        var status = stat()
        #expect(stat(http.path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(FileManager.default.fileExists(atPath: http.path + ".lock"))
        let second = try DaemonProcess(["--http", "unix:\(http.path)"], waits: false)
        #expect(second.waitForExit() == 69)
        #expect(second.log.contains("already running"))
        let shared = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: shared) }
        let both = try DaemonProcess(["--http", "unix:\(shared)/s"], folder: shared, waits: false)
        #expect(both.waitForExit() == 69, "\(both.log)")
        #expect(try http.get("/healthz").status == 200)
        // A daemon that was killed leaves a socket that the next one takes.
        http.daemon.kill()
        let next = try DaemonProcess(["--http", "unix:\(http.path)"])
        #expect(next.stop() == 0)
        #expect(!FileManager.default.fileExists(atPath: http.path))
        for address in ["tcp:0.0.0.0:0", "tcp:10.0.0.1:80", "tcp:*:80", "tcp:example.com:80", "x"] {
            let wrong = try DaemonProcess(["--http", address], waits: false)
            #expect(wrong.waitForExit() == 78, "\(address): \(wrong.log)")
        }
    }
}
