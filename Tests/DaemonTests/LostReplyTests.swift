// Replies that can't be sent are never another connection's, and what is held can be read whatever
// the memory limit.

import Foundation
import Testing
import TestSupport

@Suite("Replies without memory", .timed) struct LostReplyTests {
    /// A daemon of one loop, whose output all connections share, with a name that holds `size`
    /// bytes.
    private func daemon(_ arguments: [String], _ size: Int) throws -> DaemonProcess {
        let daemon = try DaemonProcess(["--loops", "1"] + arguments)
        let client = try daemon.text()
        #expect(try client.ask("alloc big \(size)") == "OK")
        #expect(try client.ask("write big 0 text:SECRET") == "OK")
        return daemon
    }

    @Test(
        "a connection that is closed takes its replies with it",
        arguments: [
            "read big 0 6 hex\nread big 0 300000 hex\n", "read big 0 300000 hex\n",
            "read big 0 6 hex\nread big 0 300000\n", "stat big\nread big 0 100000 base64\n",
        ])
    func taken(_ lines: String) throws {
        let daemon = try daemon(["--memory-max", "1M"], 900_000)
        defer { daemon.kill() }
        for count in [1, 20_000, 60_000, 200_000] {
            let asker = try daemon.connect()
            // More input than there is memory to keep, behind an answer that is not all sent yet.
            try? asker.send(Array((lines + String(repeating: "ping\n", count: count)).utf8))
            for _ in 0..<3 {
                let next = try daemon.connect()
                try next.send(line: "ping")
                #expect(try next.receiveLine() == "OK pong")
                next.endOutput()
                #expect(try next.receiveToEnd() == [])
            }
            asker.close()
        }
    }

    @Test("what is held can be read where the limit was lowered below it")
    func lowered() throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let file = folder + "/c.yaml"
        try "memory-max: 64M\n".write(toFile: file, atomically: false, encoding: .utf8)
        let daemon = try DaemonProcess(["--config", file, "--loops", "1"], folder: folder)
        defer { daemon.kill() }
        let client = try daemon.text()
        #expect(try client.ask("alloc big 30000000") == "OK")
        try "memory-max: 1M\n".write(toFile: file, atomically: false, encoding: .utf8)
        daemon.signal(SIGHUP)
        #expect(eventually { daemon.log.contains("settings reread") })
        let reader = try daemon.connect()
        try reader.send(Array("pi".utf8))
        usleep(50_000)
        try reader.send(line: "ng")
        #expect(try reader.receiveLine() == "OK pong")
        try reader.send(line: "read big 0 1000000")
        let answer = try reader.receiveLine()
        #expect(answer.utf8.count == 2 * 1_000_000 + 2)
        let frames = try daemon.frames()
        let read = try frames.call("read", name: "big", size: 20_000_000)
        #expect(read.payload.count == 20_000_000)
        #expect(try client.ask("dispose big") == "OK")
    }
}
