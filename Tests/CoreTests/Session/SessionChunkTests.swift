// A stream is cut where the network likes: what is answered must not depend on it.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Input in pieces", .timed)
struct SessionChunkTests {
    @Test("the script of frames is answered as a whole, each reply with its cookie")
    func frames() {
        let found = replies(in: answer(to: Scripts.smallFrames))
        #expect(found?.map(\.header.cookie) == (1...25).map { UInt64($0) })
        let failed = found?.filter { $0.status != .ok }.map {
            "\($0.header.cookie) \($0.status.name)"
        }
        #expect(
            failed == [
                "12 outOfRange", "19 noData", "23 malformedRequest", "24 unknownOperation",
            ])
    }

    @Test("frames split in two at every byte are answered as the whole is")
    func framesSplitAnywhere() {
        let script = Scripts.smallFrames
        let whole = answer(to: script)
        for at in 1..<script.count {
            var sizes = [at, script.count - at]
            let output = answer(to: script) { sizes.removeFirst() }
            guard output == whole else {
                Issue.record("split at \(at)")
                return
            }
        }
    }

    @Test("text split in two at every byte is answered as the whole is")
    func textSplitAnywhere() {
        let script = Array(Scripts.smallText.utf8)
        let whole = answer(to: script, ended: true)
        #expect(String(decoding: whole, as: UTF8.self).split(separator: "\n").count > 25)
        for at in 1..<script.count {
            var sizes = [at, script.count - at]
            let output = answer(to: script, ended: true) { sizes.removeFirst() }
            guard output == whole else {
                Issue.record("split at \(at)")
                return
            }
        }
    }

    @Test("single bytes are answered as the whole is, in both modes")
    func singleBytes() {
        #expect(answer(to: Scripts.smallFrames) { 1 } == answer(to: Scripts.smallFrames))
        let text = Array(Scripts.smallText.utf8)
        #expect(answer(to: text, ended: true) { 1 } == answer(to: text, ended: true))
    }

    @Test("large frames in random pieces are answered as the whole is, received directly or not")
    func largeFrames() {
        var random = SplitMix(for: "large frames in pieces")
        let script = Scripts.largeFrames
        let whole = answer(to: script)
        let found = replies(in: whole) ?? []
        #expect(
            found.map { $0.header.cookie } == [1, 2, 3, 4, 5, 6, 4, 5, 6, 4, 5, 6]
                + (7...18).map { UInt64($0) })
        #expect(found.filter { $0.status != .ok }.map { $0.header.cookie } == [8, 9, 10, 11])
        #expect(answer(to: script, receivesDirectly: false) == whole)
        for round in 0..<Scale.count(12) {
            let largest = [7, 100, 5000, 100_000][round % 4]
            var budget = 4000  // so many small pieces, then large ones
            let output = answer(to: script, receivesDirectly: round % 3 != 0) {
                budget -= 1
                return budget > 0 ? 1 + Int(random.next() % UInt64(largest)) : 65_536
            }
            #expect(output == whole, "pieces of up to \(largest)")
        }
    }

    @Test("every cut in the first bytes of a large write is no matter")
    func largeWriteHeads() {
        let data = [UInt8](repeating: 5, count: 66_000)
        let writes = [
            frame(.write, cookie: 9, name: "abc", offset: 3, size: 66_000, payload: data),
            frame(
                .write, flags: 1, cookie: 9, name: "abc", size: 2,
                payload: numbers(1, 60_000, 100_000, 6_000) + data),
            frame(.write, cookie: 9, name: "abcd", offset: 3, size: 66_000, payload: data),
            frame(
                .write, flags: 1, cookie: 9, name: "abc", size: 2,
                payload: numbers(1, 60_000, 200_000, 6_000) + data),
            frame(
                .write, flags: 1, cookie: 9, name: "abc", offset: 1, size: 2,
                payload: numbers(1, 60_000, 200_000, 6_000) + data),
        ]
        let before = frame(.hello) + frame(.alloc, flags: 2, type: 2, name: "abc", size: 130_000)
        let after = frame(.read, name: "abc", size: 130_000) + frame(.ping)
        for write in writes {
            let script = before + write + after
            let whole = answer(to: script)
            #expect(replies(in: whole)?.count == 5)
            for cut in 0...90 {
                for direct in [true, false] {
                    var sizes = [before.count + cut, 1, script.count]
                    let output = answer(to: script, receivesDirectly: direct) {
                        sizes.removeFirst()
                    }
                    #expect(output == whole, "cut at \(cut)")
                }
            }
        }
    }

    @Test("limits that pause at every reply change nothing in what is answered")
    func paused() {
        for (script, ended) in [
            (Scripts.smallFrames, false), (Scripts.largeFrames, false),
            (Array(Scripts.smallText.utf8), true),
        ] {
            let whole = answer(to: script, ended: ended)
            // The greeting tells the limits; all but it must be equal.
            let limited = answer(
                to: script, ended: ended,
                daemon: TestDaemon {
                    $0.outputSizeMax = 1
                    $0.requestsInFlightMax = 1
                })
            let head = ended ? 0 : 40 + 19 * 8
            #expect(limited.count == whole.count)
            #expect(limited.dropFirst(head) == whole.dropFirst(head))
        }
    }

    @Test("a large read in text is the same in every format and however it is cut")
    func largeText() {
        let daemon = TestDaemon { $0.outputSizeMax = 50_000 }
        let peer = daemon.connect()
        #expect(peer.line("alloc a 100003 Uint16") == "OK")
        for start in stride(from: 0, to: 100_003, by: 9_091) {
            #expect(
                peer.line("fill a \(start) \(min(9_091, 100_003 - start)) \(start % 65_536)")
                    == "OK")
        }
        let numbers = peer.line("read a").split(separator: " ")
        #expect(numbers.count == 100_004)
        #expect(numbers.last.map { Int($0) } == 100_001 % 65_536 || numbers.first == "OK")
        let hex = peer.line("read a 0 100003 hex")
        #expect(hex.count == 7 + 400_012)
        let base64 = peer.line("read a 0 100003 base64")
        #expect(base64.count == 10 + (200_006 + 2) / 3 * 4)
        let other = peer.line(
            "alloc b 100003 Uint16\nwrite b 0 \(hex.dropFirst(3))\nread b 0 100003 base64")
        #expect(other == "OK\nOK\n" + base64)
        let written = peer.line(
            "write b 0 \(numbers.dropFirst().joined(separator: " "))\nread b 0 100003 hex")
        #expect(written == "OK\n" + hex)
        #expect(peer.pauses > 10)
        #expect(peer.largestOutput < 50_000 + 4 * 24 * 1024 + 100)
    }
}
