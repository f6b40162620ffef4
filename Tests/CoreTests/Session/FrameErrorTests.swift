// What every frame is checked for, before its operation is.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Errors of frames", .timed)
struct FrameErrorTests {
    /// A header as bytes, with a payload of its declared size.
    private func bytes(_ operation: UInt8, _ change: (inout FrameHeader) -> Void) -> [UInt8] {
        var header = FrameHeader(magic: 0xE5, operation: operation, cookie: 0xABCD)
        change(&header)
        return CoreTests.bytes(of: header)
            + [UInt8](repeating: 0x61, count: Int(header.payloadSize))
    }

    @Test("the checks of a frame come in their order")
    func order() {
        let daemon = TestDaemon { $0.frameSizeMax = 4096 }
        var header = FrameHeader(magic: 0xE4, operation: 200, cookie: 0xABCD)
        header.version = 2
        header.payloadSize = 5000
        header.status = 1
        header.flags = 0x80
        header.type = 9
        func answer(greeted: Bool = true) -> (String, closed: Bool) {
            let peer = greeted ? daemon.greeted() : daemon.connect()
            peer.feed(
                CoreTests.bytes(of: header)
                    + [UInt8](repeating: 0x61, count: Int(header.payloadSize)))
            let found = replies(in: peer.output) ?? []
            #expect(found.count == 1)
            return (found.first?.status.name ?? "none", peer.isClosed)
        }
        #expect(answer() == ("malformedFrame", true))
        #expect(answer(greeted: false) == ("malformedFrame", true))
        header.magic = 0xE5
        #expect(answer() == ("unsupportedVersion", false))
        #expect(answer(greeted: false) == ("unsupportedVersion", false))
        header.version = 1
        #expect(answer(greeted: false) == ("helloRequired", true))
        #expect(answer() == ("frameTooLarge", false))
        header.payloadSize = 4096
        #expect(answer() == ("malformedRequest", false))
        header.status = 0
        #expect(answer() == ("unknownOperation", false))
        header.operation = Operation.ping.rawValue
        #expect(answer() == ("unsupportedFlags", false))
        header.flags = 0
        #expect(answer() == ("malformedRequest", false))
        header.type = 0
        #expect(answer() == ("malformedRequest", false))
        header.payloadSize = 0
        #expect(answer() == ("ok", false))
    }

    @Test("every first byte that is no magic ends a binary connection, alone or with more")
    func magic() {
        for byte in UInt8(0x80)...0xFF where byte != 0xE5 {
            for more in [0, 1, 38, 39, 100] {
                let peer = TestDaemon().connect()
                peer.feed([byte] + [UInt8](repeating: 1, count: more))
                let found = replies(in: peer.output) ?? []
                #expect(found.map(\.status) == [.malformedFrame])
                #expect(found.first?.header.cookie == 0 && found.first?.header.operation == 0)
                #expect(peer.isClosed)
            }
        }
    }

    @Test("after a frame, anything but a magic ends the connection, and the frame is answered")
    func laterMagic() {
        let peer = TestDaemon().greeted()
        peer.feed(frame(.ping, cookie: 1) + Array("ping\n".utf8))
        #expect(replies(in: peer.output)?.map(\.status) == [.ok, .malformedFrame])
        #expect(peer.isClosed)
    }

    @Test(
        "unknown operations are answered, their payload is skipped", arguments: [0, 1, 39, 20_000])
    func unknownOperations(_ size: UInt32) {
        let peer = TestDaemon().greeted()
        for operation in UInt8.min...UInt8.max where Operation(rawValue: operation) == nil {
            let reply = peer.call(bytes(operation) { $0.payloadSize = size })
            #expect(reply.status == .unknownOperation)
            #expect(reply.header.operation == operation && reply.header.cookie == 0xABCD)
        }
        #expect(peer.call(.ping).outcome == "ok")
    }

    @Test("flags that an operation does not have are refused, one by one and together")
    func flags() {
        let peer = TestDaemon().greeted()
        for operation in Operation.allCases {
            let own: UInt8 =
                switch operation {
                case .read, .write, .rename: 1
                case .alloc: 54
                case .map, .open: 3
                default: 0
                }
            for flags in UInt8(1)...0xFF where flags & ~own != 0 {
                let reply = peer.call(bytes(operation.rawValue) { $0.flags = flags })
                #expect(reply.status == .unsupportedFlags, "\(operation) \(flags)")
            }
        }
    }

    @Test("other versions and statuses in requests are refused, for every operation")
    func versionAndStatus() {
        let peer = TestDaemon().greeted()
        for operation in Operation.allCases {
            for version: UInt8 in [0, 2, 3, 127, 128, 255] {
                let reply = peer.call(bytes(operation.rawValue) { $0.version = version })
                #expect(reply.status == .unsupportedVersion)
            }
            for status: UInt16 in [1, 0x4000, 0x8000, 0x8001, .max] {
                let reply = peer.call(bytes(operation.rawValue) { $0.status = status })
                #expect(reply.status == .malformedRequest)
            }
        }
    }

    @Test("before hello every operation but hello is refused, and the connection ends")
    func helloRequired() {
        for operation in UInt8.min...UInt8.max where operation != Operation.hello.rawValue {
            let peer = TestDaemon().connect()
            peer.feed(bytes(operation) { _ in } + frame(.hello))
            #expect(replies(in: peer.output)?.map(\.status) == [.helloRequired])
            #expect(peer.isClosed)
        }
    }

    @Test("a hello that was refused greets nobody")
    func refusedHello() {
        let refused: [[UInt8]] = [
            bytes(1) { $0.version = 2 }, bytes(1) { $0.flags = 1 }, bytes(1) { $0.status = 1 },
            bytes(1) { $0.size = 1 }, bytes(1) { $0.handle = 1 }, bytes(1) { $0.payloadSize = 65 },
            bytes(1) { $0.payloadSize = 30_000 }, bytes(1) { $0.type = 1 },
        ]
        for hello in refused {
            let peer = TestDaemon().connect()
            peer.feed(hello)
            #expect(!peer.isClosed)
            peer.feed(frame(.ping))
            #expect(replies(in: peer.output)?.last?.status == .helloRequired)
            #expect(peer.isClosed)
            let second = TestDaemon().connect()
            second.feed(hello + frame(.hello) + frame(.ping))
            #expect(replies(in: second.output)?.dropFirst().map(\.status) == [.ok, .ok])
        }
    }

    @Test("hello tells the limits in force, and may be said again")
    func hello() {
        let daemon = TestDaemon { $0.lengthSizeMax = 4242 }
        let peer = daemon.connect()
        peer.feed(frame(.hello, payload: Array("tests/1".utf8)))
        let first = replies(in: peer.output)?.first
        #expect(first?.payload.count == 19 * 8)
        #expect(first?.number(0) == 1 && first?.number(1) == 1)
        #expect(first?.number(3) == 4242)
        var limits = Limits()
        limits.lengthSizeMax = 77
        daemon.registry.limits.update(limits)
        #expect(peer.call(.hello).number(3) == 77)
        #expect(peer.call(.alloc, type: 2, name: "a", size: 78).status == .tooLarge)
    }

    @Test("more payload than an operation can have is refused and skipped, for every operation")
    func largePayload() {
        let peer = TestDaemon().greeted()
        for operation in Operation.allCases where operation != .write {
            let reply = peer.call(bytes(operation.rawValue) { $0.payloadSize = 100_000 })
            #expect(reply.status == .malformedRequest, "\(operation)")
        }
        #expect(peer.call(.ping).outcome == "ok")
    }

    @Test("a frame over the frame size is received into nothing and answered after it")
    func tooLarge() {
        let daemon = TestDaemon { $0.frameSizeMax = 100_000 }
        let peer = daemon.greeted()
        let handle = peer.call(.alloc, type: 2, size: 200_000).header.handle
        let whole = frame(
            .write, cookie: 5, handle: handle, size: 100_001,
            payload: [UInt8](repeating: 1, count: 100_001))
        peer.feed(Array(whole.dropLast()))
        #expect(peer.output.isEmpty && peer.tail.isEmpty)
        #expect(peer.isBusy)
        peer.feed([whole.last!])
        #expect(replies(in: peer.output)?.map(\.status) == [.frameTooLarge])
        #expect(peer.call(.read, handle: handle, size: 1).payload == [0])
    }

    @Test("a fault found outside any request is told as an unsolicited reply, or as a line")
    func unsolicited() {
        let error = SmallocError(.shuttingDown, .error, "the daemon is stopping")
        let peer = TestDaemon().greeted()
        peer.session.fail(error, peer.loop)
        peer.take()
        let reply = replies(in: peer.output)?.first
        #expect(reply?.status == .shuttingDown)
        #expect(reply?.header.operation == 0 && reply?.header.cookie == 0)
        #expect(peer.pause == .close)
        for first in ["", "ping\n"] {
            let text = TestDaemon().connect()
            text.feed(first)
            text.output = []
            text.session.fail(error, text.loop)
            text.take()
            #expect(
                String(decoding: text.output, as: UTF8.self)
                    == "ERR shuttingDown Error: the daemon is stopping\n")
        }
    }
}
