// Whoever asks for much work does not keep the others waiting.
//
// What shows it is the daemon's own order, not a clock: how far the one is when the other has been
// answered. A machine that stops the test for a moment may hide that, so it has to be seen in most
// of several tries; a daemon that serves one after the other passes in none of them.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct FairnessTests {
    @Test("a small copy overtakes as many huge ones as there are threads for copies")
    func hugeCopies() throws {
        let daemon = try DaemonProcess(["--loops", "1"])
        let other = try daemon.frames()
        let text = try daemon.text()
        let distance: UInt64 = 64 << 20
        let size: UInt64 = (DaemonProcess.isSanitized ? 65 : 320) << 20
        #expect(try other.alloc("huge", size: size + distance).status == 0)
        #expect(try other.alloc("small", size: 4 << 20).status == 0)
        let copiers = try (0..<4).map { _ in try daemon.frames() }
        let overtakes = try mostly(of: 5) { attempt in
            let there = attempt % 2 == 0
            for copier in copiers {
                let frame = TestFrame(
                    11, cookie: 9, name: "huge", offset: there ? 0 : distance, size: size,
                    payload: copyTarget(offset: there ? distance : 0, name: "huge"))
                try copier.socket.send(frame.bytes)
            }
            // One handle, and two ends of each copy.
            let allRun = try eventually(within: 2) {
                try text.ask("stat huge").contains(" handles=9 ")
            }
            // The second is answered in the moment that the first is done.
            let half = 2 << 20
            try text.socket.send(
                Array("copy small 0 small \(half) \(half)\nstat huge\n".utf8))
            #expect(try text.socket.receiveLine().hasPrefix("OK"))
            let allRunOn = try text.socket.receiveLine().contains(" handles=9 ")
            for copier in copiers { #expect(try copier.socket.receiveFrame().size == size) }
            return allRun && allRunOn
        }
        #expect(overtakes)
    }

    @Test("threads that copy are less important than the loop, which stays as it is")
    func niceness() throws {
        let daemon = try DaemonProcess(["--loops", "1"])
        let other = try daemon.frames()
        let size: UInt64 = 8 << 20
        #expect(try other.alloc("a", size: size * 2).status == 0)
        let before = try niceness(of: daemon)
        // The main thread turns the only loop.
        let ours = try #require(before[daemon.pid])
        let reply = try other.call(
            "copy", name: "a", size: size, payload: copyTarget(offset: size, name: "a"))
        #expect(reply.size == size)
        let after = try niceness(of: daemon)
        let less = min(ours + 10, 19)
        #expect(after.values.filter { $0 == less }.count > before.values.filter { $0 == less }.count)
        #expect(after[daemon.pid] == ours)
    }

    /// The niceness of each thread of a daemon, by its number.
    private func niceness(of daemon: DaemonProcess) throws -> [pid_t: Int] {
        let tasks = "/proc/\(daemon.pid)/task"
        var found: [pid_t: Int] = [:]
        for task in try FileManager.default.contentsOfDirectory(atPath: tasks) {
            // The name in parentheses may hold anything; niceness is the 17th field after it.
            let stat = try String(contentsOfFile: "\(tasks)/\(task)/stat", encoding: .utf8)
            let fields = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
            if let number = pid_t(task), fields.count > 17 { found[number] = Int(fields[17]) }
        }
        return found
    }

    @Test("the daemon leaves in the middle of huge copies, by its own way out")
    func stopped() throws {
        // Where all threads of the machine are taken, the emergency exit may come first.
        let stops = try mostly { _ in
            let daemon = try DaemonProcess()
            let copiers = try (0..<4).map { _ in try daemon.frames() }
            let size: UInt64 = 128 << 20
            for (index, copier) in copiers.enumerated() {
                #expect(try copier.alloc("c\(index)", size: size + 4096).status == 0)
                let copy = TestFrame(
                    11, handle: 1, size: size, payload: copyTarget(offset: 4096, handle: 1))
                // Far more than can be done before the time to stop is over.
                for _ in 0..<400 { try copier.socket.send(copy.bytes) }
            }
            for copier in copiers { #expect(try copier.socket.receiveFrame().size == size) }
            #expect(daemon.stop() == 0)
            #expect(!FileManager.default.fileExists(atPath: daemon.path))
            return daemon.log.contains("stopped")
        }
        #expect(stops)
    }

    @Test("a flood of copies that are done at once, or of listings, lets others have their turns")
    func floods() throws {
        let daemon = try DaemonProcess(["--loops", "1"])
        let flooder = try daemon.frames()
        let other = try daemon.text()
        #expect(try flooder.alloc("a", size: 2 << 20).status == 0)
        let count = 3000
        try flooder.socket.send(
            (0..<count).flatMap { TestFrame(3, flags: 2, type: 2, name: "n\($0)", size: 1).bytes })
        for _ in 0..<count { #expect(try flooder.socket.receiveFrame().status == 0) }
        let copy = TestFrame(
            11, handle: 1, size: 1 << 20, payload: copyTarget(offset: 1 << 20, handle: 1))
        let listing = TestFrame(7, name: "nothing")
        for (frame, key) in [(copy, "requests_copy"), (listing, "requests_list")] {
            let takesTurns = try mostly { _ in
                var seen: Set<Int> = []
                let before = try number(key, other)
                // So few that their replies fit into the socket, though each turn's leave alone.
                let flood = 300
                try flooder.socket.send((0..<flood).flatMap { _ in frame.bytes })
                // A daemon that serves it in one go has done nothing of it, or all.
                for _ in 0..<FairnessTests.looksMax {
                    let done = try number(key, other) - before
                    if done == flood { break }
                    if done > 0 { seen.insert(done) }
                }
                for _ in 0..<flood { #expect(try flooder.socket.receiveFrame().status == 0) }
                print("\(key): \(seen.count) states between none and all were seen")
                return seen.count >= 5
            }
            #expect(takesTurns, "\(key)")
        }
    }

    /// Far more looks than it ever takes, so that what never comes fails, and does not hang.
    private static let looksMax = 1_000_000

    private func number(_ key: String, _ client: TextClient) throws -> Int {
        Int(try client.stats()[key] ?? "") ?? 0
    }

    @Test("the end of a connection with very many handles holds up nobody")
    func manyHandles() throws {
        let daemon = try DaemonProcess(["--loops", "1"])
        let other = try daemon.text()
        #expect(try other.ask("alloc a 1") == "OK")
        // One connection may have a million.
        let count = min(Scale.count(250_000), 1_000_000)
        let takesTurns = try mostly { _ in
            var seen: Set<String> = []
            let holder = try daemon.frames()
            let step = 2500
            let opens = (0..<step).flatMap { _ in TestFrame(4, name: "a").bytes }
            for _ in 0..<count / step {
                try holder.socket.send(opens)
                for _ in 0..<step { #expect(try holder.socket.receiveFrame().status == 0) }
            }
            let all = try handles(other)
            #expect(all == "handles=\(count / step * step)")
            holder.socket.close()
            for _ in 0..<FairnessTests.looksMax {
                let left = try handles(other)
                if left == "handles=0" { break }
                if left != all { seen.insert(left) }
            }
            print("\(seen.count) states between all and none were seen")
            return seen.count >= 3
        }
        #expect(takesTurns)
    }

    private func handles(_ client: TextClient) throws -> String {
        let words = try client.ask("stat a").split(separator: " ")
        return words.first { $0.hasPrefix("handles=") }.map(String.init) ?? ""
    }
}
