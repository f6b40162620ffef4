// The client's engine: replies find their requests, whatever the order and the pieces that they
// come in, and what is no reply ends the session with an error.

import Foundation
import SmallocWire
import TestSupport
import Testing

@testable import Smalloc

@Suite("The client's session", .timed)
struct ClientSessionTests {
    /// Memory that a test watches.
    private final class Room {
        let bytes: UnsafeMutableRawBufferPointer
        init(_ size: Int) {
            bytes = .allocate(byteCount: size, alignment: 8)
            bytes.initializeMemory(as: UInt8.self, repeating: 0xEE)
        }
        deinit { bytes.deallocate() }
        var contents: [UInt8] { Array(bytes) }
    }

    /// One request of every kind, with the replies to them, and what has to come of each.
    private struct Scene {
        let driver: SessionDriver
        private(set) var replies: [TestFrame] = []
        private var checks: [(name: String, isRight: () -> Bool)] = []

        init(_ random: inout SplitMix, inFlightMax: UInt64 = 4096) throws {
            driver = SessionDriver(inFlightMax: inFlightMax)
            let driver = driver
            var payloads: [[UInt8]] = []
            func check(_ name: String, _ isRight: @escaping () -> Bool) {
                checks.append((name, isRight))
            }
            /// Adds a request that reads, and what its good reply has.
            func reads(_ size: Int) -> [UInt8] {
                payloads.append(random.bytes(size))
                return payloads.last ?? []
            }
            let number = reads(8)
            let first = driver.ask(.read, size: 8)
            check("a number") {
                driver.take(first).map { littleEndian($0.number) == number } == true
            }
            let small = reads(24)
            let room = Room(24)
            let second = driver.ask(.read, size: 24, room: room.bytes.baseAddress)
            check("into a room") {
                driver.take(second)?.more == nil && room.contents == small
            }
            let large = reads(10_000)
            let sink = ArraySink<UInt8>(count: 10_000)
            let third = driver.ask(.read, size: 10_000, sink: sink)
            check("into a sink") { driver.take(third)?.more == nil && sink.take() == large }
            let none = reads(0)
            let fourth = driver.ask(.write, size: 0)
            check("nothing") { driver.take(fourth)?.more == nil && none.isEmpty }
            let whole = reads(57)
            let fifth = driver.ask(.stat)
            check("all of a reply") {
                (try? driver.take(fifth)?.reply())?.payload == whole
            }
            let long = reads(9001)
            let sixth = driver.ask(.list)
            check("all of a long reply") {
                (try? driver.take(sixth)?.reply())?.payload == long
            }
            let seventh = driver.ask(.stats)
            payloads.append(Array("it is not so".utf8))
            check("an error") {
                guard case .failure(let error) = driver.take(seventh)?.more?.content else {
                    return false
                }
                return error.status == .noData && error.message == "it is not so"
            }
            driver.session.forget(FrameHeader(magic: 0xE5, operation: 5))
            payloads.append([])
            let sizes = [3, 0, 5000, 64, 8]
            let (eighth, record) = try driver.batch(sizes)
            let parts = sizes.map(reads)
            check("a batch") {
                driver.take(eighth)?.more == nil && record.unanswered == 0
                    && sizes.indices.allSatisfy { Array(record.bytes(record.at($0))) == parts[$0] }
            }
            replies = payloads.enumerated().map { index, payload in
                reply(
                    to: TestFrame(8), status: index == 6 ? .noData : .ok, payload: payload)
            }
        }

        /// Gives the replies the cookies of the requests that have been sent, in their order.
        func replies(to requests: [TestFrame], from begin: Int = 0) -> [TestFrame] {
            requests.enumerated().map { index, request in
                var frame = replies[begin + index]
                frame.cookie = request.cookie
                frame.operation = request.operation
                return frame
            }
        }

        func check() {
            for (name, isRight) in checks { #expect(isRight(), "\(name)") }
            #expect(driver.session.pending.count == 0)
            #expect(driver.session.inFlight == 0)
        }
    }

    @Test(
        "replies in any order and in any pieces are found by their cookies",
        arguments: [1, 7, 39, 40, 41, 1000, Int.max])
    func shuffled(_ step: Int) throws {
        var random = SplitMix(for: "shuffled replies")
        for round in 0..<20 {
            let scene = try Scene(&random)
            var replies = scene.replies(to: scene.driver.sent())
            #expect(replies.count == 13)
            if round > 0 { replies.shuffle(using: &random) }
            try scene.driver.receive(replies.flatMap(\.bytes), step: step)
            scene.check()
        }
    }

    @Test("bytes behind a reply wait for the rest of theirs", arguments: [1, 11, Int.max])
    func trailing(_ step: Int) throws {
        var random = SplitMix(for: "trailing bytes")
        for cut in [1, 39, 40, 41, 63] {
            let scene = try Scene(&random)
            let next = scene.driver.ask(.read, size: 24)
            var requests = scene.driver.sent()
            let last = requests.removeLast()
            let bytes = reply(to: last, payload: random.bytes(24)).bytes
            let replies = scene.replies(to: requests).shuffled(using: &random)
            try scene.driver.receive(
                replies.flatMap(\.bytes) + bytes[..<cut], step: step)
            #expect(scene.driver.take(next) == nil)
            try scene.driver.receive(Array(bytes[cut...]), step: step)
            #expect(scene.driver.take(next) != nil)
            scene.check()
        }
    }

    @Test("no more is in flight than the daemon allows, and all is sent in its order")
    func limited() throws {
        var random = SplitMix(for: "limited requests")
        for most in 1...14 {
            let scene = try Scene(&random, inFlightMax: UInt64(most))
            var waiting: [TestFrame] = []
            var count = 0
            while count < 13 {
                let sent = scene.driver.sent()
                waiting += scene.replies(to: sent, from: count)
                count += sent.count
                #expect(waiting.count <= most && scene.driver.session.inFlight == waiting.count)
                try #require(!waiting.isEmpty, "\(count) of 13 were sent")
                let index = Int.random(in: waiting.indices, using: &random)
                try scene.driver.receive(waiting.remove(at: index).bytes)
            }
            for frame in waiting.shuffled(using: &random) {
                try scene.driver.receive(frame.bytes)
            }
            scene.check()
        }
    }

    @Test("a reply that answers nothing ends the session")
    func unknown() throws {
        func failure(_ change: (inout TestFrame) -> Void, twice: Bool = false) -> SmallocError? {
            let driver = SessionDriver()
            _ = driver.ask(.read, size: 8)
            var frame = reply(to: driver.sent()[0], payload: [UInt8](repeating: 1, count: 8))
            do throws(SmallocError) {
                if twice { try driver.receive(frame.bytes) }
                change(&frame)
                try driver.receive(frame.bytes)
                return nil
            } catch { return error }
        }
        #expect(failure({ _ in }) == nil)
        #expect(failure({ _ in }, twice: true)?.status == .unexpectedReply)
        #expect(failure({ $0.cookie += 1 })?.status == .unexpectedReply)
        #expect(failure({ $0.cookie += 1 << 32 })?.status == .unexpectedReply)
        #expect(failure({ $0.cookie |= 1 << 63 })?.status == .unexpectedReply)
        #expect(failure({ $0.cookie = .max })?.status == .unexpectedReply)
        #expect(failure({ $0.cookie = 0 })?.status == .unexpectedReply)
        #expect(failure({ $0.operation = 9 })?.status == .unexpectedReply)
        #expect(failure({ $0.magic = 0xE5 })?.status == .unexpectedReply)
        #expect(failure({ $0.version = 9 })?.status == .unexpectedReply)
        let driver = SessionDriver(inFlightMax: 2)
        _ = try driver.batch([1, 1, 1])
        var early = reply(to: driver.sent()[1], payload: [1])
        early.cookie += 1
        #expect(throws: SmallocError.self, "a request of a batch that has not been sent") {
            try driver.receive(early.bytes)
        }
    }

    @Test("a payload of another size fails its request and no other")
    func sizes() throws {
        for size in [0, 7, 9, 6000] {
            let driver = SessionDriver()
            let cookies = [driver.ask(.read, size: 8), driver.ask(.read, size: 8)]
            let requests = driver.sent()
            try driver.receive(
                reply(to: requests[0], payload: [UInt8](repeating: 1, count: size)).bytes)
            try driver.receive(
                reply(to: requests[1], payload: [UInt8](repeating: 1, count: 8)).bytes)
            guard case .failure(let error) = driver.take(cookies[0])?.more?.content else {
                Issue.record("a payload of \(size) bytes was taken")
                continue
            }
            #expect(error.status == .unexpectedReply)
            #expect(driver.take(cookies[1])?.more == nil)
        }
    }

    @Test("a payload that no limit allows is refused before there is memory for it")
    func oversized() {
        for status in [Smalloc.Status.ok, .noData, .shuttingDown] {
            let driver = SessionDriver()
            _ = driver.ask(.list)
            var frame = reply(to: driver.sent()[0], status: status)
            frame.payloadSize = .max
            let bytes = frame.bytes
            let error = failure { () throws(SmallocError) in try driver.receive(bytes) }
            #expect(error?.status == .unexpectedReply)
        }
    }

    @Test("what the daemon closes for is thrown, whether it was asked something or not")
    func closing() throws {
        for cookie in [nil, 0, 12345] as [UInt64?] {
            for step in [1, Int.max] {
                let driver = SessionDriver()
                let asked = driver.ask(.read, size: 8)
                var bye = reply(
                    to: driver.sent()[0], status: .shuttingDown, payload: Array("bye".utf8))
                if let cookie { bye.cookie = cookie }
                let bytes = bye.bytes
                let error = failure { () throws(SmallocError) in
                    try driver.receive(bytes, step: step)
                }
                #expect(error?.status == .shuttingDown && error?.message == "bye")
                if cookie == nil { #expect(driver.take(asked)?.more != nil) }
            }
        }
    }

    @Test(
        "a late answer is not written to memory that is gone, and ends the waiting for its cookie")
    func late() throws {
        for isCancelled in [true, false] {
            let driver = SessionDriver()
            let room = Room(24)
            let cookie = driver.ask(.read, size: 24, room: room.bytes.baseAddress, deadline: 10)
            let request = driver.sent()[0]
            if isCancelled {
                #expect(driver.session.cancel(cookie) == nil)
            } else {
                driver.checkDeadlines(9)
                #expect(driver.take(cookie) == nil)
                driver.checkDeadlines(10)
                let error = failure { () throws(SmallocError) in
                    try driver.take(cookie)?.check()
                }
                #expect(error?.status == .timedOut)
            }
            #expect(driver.session.pending.count == 1, "the reply has still to be recognised")
            try driver.receive(reply(to: request, payload: [UInt8](repeating: 1, count: 24)).bytes)
            #expect(room.contents == [UInt8](repeating: 0xEE, count: 24))
            if isCancelled {
                let error = failure { () throws(SmallocError) in
                    try driver.take(cookie)?.check()
                }
                #expect(error?.status == .cancelled)
            }
            #expect(driver.session.pending.count == 0 && driver.session.inFlight == 0)
        }
    }

    @Test("a handle that was opened for a call that has gone is closed")
    func unwantedHandles() throws {
        let driver = SessionDriver()
        let cookies = [driver.ask(.open), driver.ask(.open)]
        let requests = driver.sent()
        driver.session.abandon(cookies[1])
        for (handle, request) in requests.enumerated() {
            try driver.receive(reply(to: request, handle: UInt32(handle) + 7).bytes)
        }
        #expect(driver.input.takeUnwantedHandles() == [8])
        #expect(driver.input.takeUnwantedHandles() == [])
        #expect(try driver.take(cookies[0])?.reply().header.handle == 7)
    }

    @Test("what was given up before it could be sent is not sent, but for what frees something")
    func unsent() throws {
        let driver = SessionDriver(inFlightMax: 1)
        let cookies = [SmallocWire.Operation.ping, .read, .dispose, .write].map {
            driver.ask($0, size: 0)
        }
        driver.session.forget(FrameHeader(magic: 0xE5, operation: 5))
        let first = driver.sent()
        #expect(first.map(\.operation) == [2])
        for cookie in cookies[1...2] { driver.session.abandon(cookie) }
        var operations: [UInt8] = []
        var request = first[0]
        for _ in 0..<3 {
            try driver.receive(reply(to: request).bytes)
            let sent = driver.sent()
            guard sent.count == 1 else { break }
            request = sent[0]
            operations.append(request.operation)
        }
        #expect(operations == [SmallocWire.Operation.dispose.rawValue, 9, 5])
        try driver.receive(reply(to: request).bytes)
        #expect(driver.session.pending.count == 2, "two answers have not been fetched")
    }

    @Test("what is under way on an allocation is known until it is answered, given up or not")
    func underWay() throws {
        let driver = SessionDriver(inFlightMax: 1)
        func isUnderWay(_ handle: UInt32) -> Bool { driver.session.isUnderWay(on: handle) }
        #expect(!isUnderWay(1))
        // All by handle 1; the second is not even sent before the first is answered.
        let cookies = [driver.ask(.write), driver.ask(.read)]
        #expect(isUnderWay(1) && !isUnderWay(2))
        driver.session.abandon(cookies[0])
        driver.session.abandon(cookies[1])
        #expect(isUnderWay(1))
        try driver.receive(reply(to: driver.sent()[0]).bytes)
        #expect(!isUnderWay(1), "what was given up before is not sent")
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        let wait = driver.session.startWait(.access(.wait, 1, offset: 0, size: 0), none)
        #expect(!isUnderWay(1))
        try driver.receive(reply(to: driver.sent()[0]).bytes)
        _ = driver.take(wait)
        // It may write to any.
        let copy = driver.ask(.copy)
        #expect(isUnderWay(2))
        try driver.receive(reply(to: driver.sent()[0]).bytes)
        #expect(!isUnderWay(2), "the answer need not be fetched")
        _ = driver.take(copy)
        _ = try driver.batch([8])
        #expect(isUnderWay(2))
    }

    /// Descriptors of a file of 4096 bytes.
    private func descriptors(_ count: Int) -> [Int32] {
        guard let file = tmpfile() else { return [] }
        defer { fclose(file) }
        ftruncate(fileno(file), 4096)
        return (0..<count).map { _ in dup(fileno(file)) }
    }

    private func isOpen(_ descriptor: Int32) -> Bool { fcntl(descriptor, F_GETFD) != -1 }

    @Test("descriptors go with their replies, in the order of the stream")
    func descriptors() throws {
        let driver = SessionDriver()
        let cookies = (0..<5).map { _ in driver.ask(.stat, descriptorsAt: 8) }
        let requests = driver.sent()
        driver.session.abandon(cookies[2])
        let come = descriptors(5)
        func reply(_ index: Int, _ count: UInt8) -> [UInt8] {
            let payload = littleEndian(0) + [count, 0, 0, 0]
            return ClientTests.reply(to: requests[index], payload: payload).bytes
        }
        // Those of several replies may come at once.
        driver.input.received(descriptors: Array(come[..<3]))
        try driver.receive(reply(1, 1))
        let early = failure { () throws(SmallocError) in _ = try driver.state.mapped() }
        #expect(early?.status == .unexpectedReply)
        // The state memory's comes once, here with a reply that no task waits for.
        try driver.receive(reply(2, 2))
        driver.input.received(descriptors: Array(come[3...]))
        try driver.receive(reply(0, 0) + reply(3, 1), step: 5)
        #expect(try driver.take(cookies[0])?.reply().descriptors == [])
        #expect(try driver.take(cookies[1])?.reply().descriptors == [come[0]])
        #expect(try driver.take(cookies[3])?.reply().descriptors == [come[3]])
        #expect(come.allSatisfy(isOpen))
        driver.input.closeUnwantedDescriptors()
        #expect(come.map(isOpen) == [true, false, true, true, true])
        #expect(
            try driver.state.mapped().word(255) != nil && driver.state.mapped().word(256) == nil)
        #expect(!isOpen(come[2]), "it is mapped, and its descriptor not needed any more")
        close(come[0])
        close(come[3])
        driver.input = ReplyInput(capacity: 4096, driver.state)
        #expect(!isOpen(come[4]), "what belongs to no reply goes with the connection")
    }

    @Test("a reply without its descriptors ends the connection", arguments: [1, 3] as [UInt8])
    func missingDescriptors(told: UInt8) throws {
        let driver = SessionDriver()
        if told == 3 { driver.input.received(descriptors: descriptors(3)) }
        let missing = driver.ask(.stat, descriptorsAt: 8)
        let request = driver.sent()[0]
        let ended = failure { () throws(SmallocError) in
            try driver.receive(
                ClientTests.reply(to: request, payload: littleEndian(0) + [told, 0, 0, 0]).bytes)
        }
        #expect(ended?.status == .unexpectedReply)
        let error = failure { () throws(SmallocError) in try driver.take(missing)?.check() }
        #expect(error?.status == .unexpectedReply)
    }

    @Test("the end answers everything, and refuses what comes after it")
    func end() throws {
        let driver = SessionDriver(inFlightMax: 1)
        let cookies = [driver.ask(.ping), driver.ask(.ping)]
        let none: Remote<BlockingOwner>? = nil
        #expect(driver.session.refusal(2, none) == nil)
        #expect(driver.session.end(.connectionLost("first")).error.message == "first")
        #expect(driver.session.end(.closed).error.message == "first")
        for cookie in cookies {
            let error = failure { () throws(SmallocError) in try driver.take(cookie)?.check() }
            #expect(error?.message == "first")
        }
        #expect(driver.session.refusal(2, none)?.status == .connectionLost)
        #expect(driver.sent().isEmpty)
    }

    @Test("random bytes and broken replies never do more than end the session")
    func noise() throws {
        var random = SplitMix(for: "noise for the client")
        for _ in 0..<2000 {
            let scene = try Scene(&random)
            var bytes = scene.replies(to: scene.driver.sent()).shuffled(using: &random)
                .flatMap(\.bytes)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[Int.random(in: bytes.indices, using: &random)] ^= 0xFF
                case 1: bytes.removeSubrange(..<Int.random(in: 0..<bytes.count, using: &random))
                default:
                    let at = Int.random(in: 0..<min(bytes.count, 400), using: &random)
                    bytes[at] = UInt8.random(in: 0...255, using: &random)
                }
                if bytes.isEmpty { break }
            }
            let input = bytes
            let step = Int.random(in: 1...5000, using: &random)
            let error = failure { () throws(SmallocError) in
                try scene.driver.receive(input, step: step)
            }
            #expect(error == nil || error?.status.closes == true)
            _ = scene.driver.session.end(error ?? .closed)
        }
    }
}
