// A promotion takes about as long as its copy, whatever clients are in the middle of, and holds no
// other request up.

import CSmalloc
import Foundation
import Glibc
import Testing
import TestSupport

@Suite("Time of promotions", .timed(seconds: 120))
struct PromotionTimeTests {
    private static let size = Scale.isNightly ? 1 << 30 : 96 << 20

    /// Milliseconds of a body.
    private static func time(_ body: () throws -> Void) rethrows -> Double {
        let start = DispatchTime.now().uptimeNanoseconds
        try body()
        return Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6
    }

    /// Milliseconds that it takes to write as many bytes to a new file.
    private static func copyTime() throws -> Double {
        let bytes = mmap(
            nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        try #require(bytes != MAP_FAILED)
        memset(bytes, 7, size)
        let file = smalloc_file_create(size)
        defer {
            munmap(bytes, size)
            close(file)
        }
        let step = 256 << 10
        return time {
            for at in stride(from: 0, to: size, by: step) {
                pwrite(file, bytes + at, step, at)
            }
        }
    }

    /// One round; what each part took, in milliseconds.
    private struct Round {
        var copy = 0.0
        var alone = 0.0
        var beside = 0.0
        var requests: [String: Double] = [:]
    }

    private func round() throws -> Round {
        let size = PromotionTimeTests.size
        var round = Round()
        let daemon = try DaemonProcess(["--loops", "2"])
        let owner = try daemon.frames()
        for name in ["a", "b"] {
            #expect(try owner.alloc(name, size: UInt64(size)).status == 0)
            #expect(
                try owner.call("fill", name: name, size: UInt64(size), payload: [7]).status == 0)
        }
        // The first touch of memory that the machine itself has to be given takes several times as
        // long: so what is measured comes after the same was done once.
        _ = try PromotionTimeTests.copyTime()
        round.copy = try PromotionTimeTests.copyTime()
        round.alone = try PromotionTimeTests.time {
            let mapped = try owner.call("map", name: "b")
            #expect(mapped.status == 0)
        }
        #expect(try owner.call("dispose", name: "b").status == 0)

        // A client that does not read what it has asked for, and one whose bytes come one by one.
        let reader = try daemon.frames()
        try reader.socket.send(TestFrame(8, name: "a", size: UInt64(size)).bytes)
        let writer = try daemon.frames()
        let data = [UInt8](repeating: 9, count: 8 << 20)
        let write = TestFrame(9, name: "a", size: UInt64(data.count), payload: data).bytes
        try writer.socket.send(Array(write[..<100_000]))
        let trickle = Thread {
            for byte in write[100_000...] where !Thread.current.isCancelled {
                guard (try? writer.socket.send([byte])) != nil else { return }
                usleep(1000)
            }
        }
        trickle.start()
        defer { trickle.cancel() }
        usleep(50_000)

        let other = try daemon.frames()
        let start = DispatchTime.now().uptimeNanoseconds
        try owner.socket.send(TestFrame(18, name: "a").bytes)
        round.requests["freeze"] = try PromotionTimeTests.time {
            let frozen = try other.call("freeze", name: "a")
            #expect(FrameClient.statusName(frozen) == "busy")
        }
        round.requests["read"] = try PromotionTimeTests.time {
            let read = try other.call("read", name: "a", offset: UInt64(size / 2), size: 1)
            #expect(read.payload == [7])
        }
        round.requests["truncate"] = try PromotionTimeTests.time {
            let cut = try other.call("truncate", name: "a", size: UInt64(size - 5000))
            #expect(cut.status == 0)
        }
        #expect(try owner.socket.receiveFrame().status == 0)
        round.beside = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6
        // What trickles in is in the new memory, too.
        #expect(try other.call("read", name: "a", offset: 50_000, size: 1).payload == [9])
        return round
    }

    @Test(
        "beside a stalled reader and a trickling writer it takes 1.3 times its copy and 100 ms",
        .enabled(if: !DaemonProcess.isSanitized, "a sanitizer takes its time"))
    func besideTransfers() throws {
        let isFast = try mostly { _ in
            let round = try round()
            let size = PromotionTimeTests.size >> 20
            print(
                "promotion of \(size) MiB, in ms: copy \(Int(round.copy)), alone",
                "\(Int(round.alone)), beside transfers \(Int(round.beside)); meanwhile",
                round.requests.sorted { $0.key < $1.key }.map {
                    "\($0.key) \(Int($0.value.rounded(.up)))"
                }.joined(separator: ", "))
            return round.beside <= 1.3 * round.copy + 100
                && round.requests.values.allSatisfy { $0 < 100 }
        }
        #expect(isFast)
    }
}
