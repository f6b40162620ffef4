// Who is connected, and who is told.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct ClientsTests {
    /// The words of a CLIENT or SLOW line.
    static func words(_ line: String) -> [String: String] {
        var words: [String: String] = [:]
        for word in line.split(separator: " ").dropFirst() {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            words[String(parts[0])] = String(parts.last ?? "")
        }
        return words
    }

    /// The lines of an answer, without the last.
    static func ask(_ client: TextClient, _ line: String) throws -> [[String: String]] {
        try client.socket.send(line: line)
        var found: [[String: String]] = []
        while true {
            let line = try client.socket.receiveLine()
            guard line.hasPrefix("CLIENT ") || line.hasPrefix("SLOW ") else {
                #expect(line == "OK \(found.count)")
                return found
            }
            found.append(words(line))
        }
    }

    @Test("each connection is told with what it is and does, over all loops")
    func told() throws {
        let daemon = try DaemonProcess(["--loops", "3"], tcp: true)
        let text = try daemon.text()
        let frames = try daemon.frames()
        let overTCP = try FrameClient(daemon.connectTCP())
        let silent = try daemon.connect()
        _ = try frames.alloc("a", size: 1000)
        _ = try frames.alloc("", size: 10)
        for _ in 0..<5 { #expect(try frames.call("ping").status == 0) }
        #expect(try eventually { try ClientsTests.ask(text, "clients").count == 4 })
        let all = try ClientsTests.ask(text, "clients")
        #expect(Set(all.map { $0["id"] }).count == 4)
        let binary = try #require(all.first { $0["mode"] == "binary" && $0["transport"] == "unix" })
        #expect(binary["uid"] == "\(getuid())" && binary["pid"] == "\(getpid())")
        #expect(binary["program"] == "tests/1")
        #expect(binary["handles"] == "2" && binary["requests"] == "8" && binary["maps"] == "0")
        #expect(Int(binary["read"] ?? "") ?? 0 >= 8 * 40)
        #expect(Int(binary["written"] ?? "") ?? 0 >= 8 * 40)
        let tcp = try #require(all.first { $0["transport"] == "tcp" })
        #expect(tcp["uid"] == "none" && tcp["pid"] == "none" && tcp["mode"] == "binary")
        let quiet = try #require(all.first { $0["mode"] == "none" })
        #expect(quiet["requests"] == "0" && quiet["read"] == "0" && quiet["program"] == "-")
        #expect(all.contains { $0["mode"] == "text" && $0["requests"] != "0" })
        // Over TCP nobody is known, and one is told of itself.
        let own = try overTCP.call("clients")
        #expect(own.status == 0 && own.size == 1)
        silent.close()
        #expect(try eventually { try ClientsTests.ask(text, "clients").count == 3 })
    }

    @Test("what a client does not read, and that it is not read from, shows")
    func waiting() throws {
        let daemon = try DaemonProcess()
        let text = try daemon.text()
        let lazy = try daemon.frames()
        let size: UInt64 = 8 << 20
        _ = try lazy.alloc("a", size: size)
        for cookie in 0..<8 {
            try lazy.socket.send(TestFrame(8, cookie: UInt64(cookie), name: "a", size: size).bytes)
        }
        #expect(
            try eventually {
                let one = try ClientsTests.ask(text, "clients").first { $0["mode"] == "binary" }
                return one?["paused"] == "yes" && Int(one?["waiting"] ?? "") ?? 0 > 0
            })
        for _ in 0..<8 { _ = try lazy.socket.receiveFrame() }
        #expect(
            try eventually {
                let one = try ClientsTests.ask(text, "clients").first { $0["mode"] == "binary" }
                return one?["paused"] == "no" && one?["waiting"] == "0"
            })
    }

    @Test("a name that is no text comes out harmless")
    func hostileName() throws {
        let http = try HTTPDaemon()
        defer { http.end() }
        let socket = try http.daemon.connect()
        let name = Array("<b>\"\n\r\u{1B}[2J é id=7 x=/v\0".utf8)
        try socket.send(TestFrame(1, cookie: 1, payload: name).bytes)
        #expect(try socket.receiveFrame().status == 0)
        let text = try http.daemon.text()
        let found = try ClientsTests.ask(text, "clients")
        let one = try #require(found.first { $0["mode"] == "binary" })
        #expect(one["program"] == #"<b>"???[2J_??_id=7_x=/v?"#)
        let document = try http.get("/clients.json")
        #expect(document.text.allSatisfy { $0.isASCII && $0 != "<" })
        let clients = try #require(document.json["clients"] as? [[String: Any]])
        #expect(clients.count == 2 && document.json["total"] as? Int == 2)
        #expect(clients.contains { ($0["program"] as? String)?.hasPrefix("<b>\"") == true })
    }

    @Test(
        "a listing of many connections comes in pages, and holds no loop up", .timed(seconds: 120))
    func many() throws {
        let daemon = try DaemonProcess(["--loops", "2"], descriptors: 4096)
        let sockets = try (0..<1000).map { _ in try daemon.connect() }
        let text = try daemon.text()
        #expect(try eventually { try ClientsTests.ask(text, "clients").count == 1001 })
        let all = try ClientsTests.ask(text, "clients")
        #expect(Set(all.map { $0["id"] }).count == 1001)
        let frames = try daemon.frames()
        var (cursor, count, pages) = (UInt64(0), UInt64(0), 0)
        repeat {
            let page = try frames.call("clients", offset: cursor)
            #expect(page.status == 0 && page.size <= 256)
            count += page.size
            cursor = page.offset
            pages += 1
        } while cursor != 0 && pages < 1000
        #expect(count == 1002)
        if !DaemonProcess.isSanitized {
            let longest = Int(try text.stats()["loop_longest_turn_us"] ?? "") ?? 0
            #expect(longest < 50_000, "a turn took \(longest) us")
        }
        withExtendedLifetime(sockets) {}
    }

    @Test(
        "another user sees its own connections, and no name of others", .enabled(if: getuid() == 0))
    func otherUser() throws {
        let daemon = try DaemonProcess(["--socket-mode", "0666", "--slowlog-threshold", "0"])
        let folder = (daemon.path as NSString).deletingLastPathComponent
        chmod(folder, 0o755)
        let own = try daemon.frames()
        let size: UInt64 = 4 << 20
        _ = try own.alloc("private", size: size)
        _ = try own.call("fill", name: "private", size: size, payload: [1])
        let script = """
            import os, socket
            os.setgid(65534); os.setuid(65534)
            s = socket.socket(socket.AF_UNIX); s.connect('\(daemon.path)')
            s.sendall(b'clients\\nslowlog\\nquit\\n')
            while True:
                b = s.recv(65536)
                if not b: break
                print(b.decode(), end='')
            """
        guard let (code, output) = try Spawn.run(["/usr/bin/env", "python3", "-c", script]) else {
            Issue.record("no end")
            return
        }
        #expect(code == 0, "\(output)")
        #expect(output.contains("uid=65534") && !output.contains("uid=0"))
        #expect(output.contains("operation=fill") && !output.contains("private"))
        let mine = try ClientsTests.ask(daemon.text(), "slowlog")
        #expect(mine.contains { $0["name"] == "private" && $0["operation"] == "fill" })
    }
}

@Suite(.timed) struct SlowLogTests {
    @Test("a request that takes long is told with its name, its size and what it waited for")
    func told() throws {
        let http = try HTTPDaemon(["--slowlog-threshold", "50ms", "--slowlog-length", "3"])
        defer { http.end() }
        let client = try http.daemon.frames()
        let text = try http.daemon.text()
        #expect(try ClientsTests.ask(text, "slowlog").isEmpty)
        let size = 200_000
        _ = try client.alloc("a", size: UInt64(size))
        // A writer that trickles.
        let frame = TestFrame(
            9, cookie: 5, name: "a", size: UInt64(size),
            payload: [UInt8](repeating: 1, count: size)
        ).bytes
        for _ in 0..<4 {
            try client.socket.send(Array(frame.prefix(100_000)))
            usleep(80_000)
            try client.socket.send(Array(frame.dropFirst(100_000)))
            #expect(try client.socket.receiveFrame().status == 0)
        }
        let found = try ClientsTests.ask(text, "slowlog")
        #expect(found.count == 3 && found[0]["id"] == "4" && found[2]["id"] == "2")
        #expect(found[0]["operation"] == "write" && found[0]["waited"] == "client")
        #expect(found[0]["name"] == "a" && found[0]["size"] == "\(size)")
        #expect(Double(found[0]["duration"] ?? "") ?? 0 >= 0.07)
        #expect(try ClientsTests.ask(text, "slowlog 1").count == 1)
        let document = try http.get("/slowlog.json").json
        #expect(document["threshold"] as? Double == 0.05)
        let entries = try #require(document["entries"] as? [[String: Any]])
        #expect(entries.count == 3 && entries[0]["name"] as? String == "a")
        #expect(abs((entries[0]["time"] as? Double ?? 0) - Date().timeIntervalSince1970) < 60)
        #expect(try http.get("/metrics").text.contains("\nsmalloc_slow_requests_total 4\n"))
    }
}
