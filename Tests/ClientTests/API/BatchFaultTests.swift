// Batches of both kinds when the daemon errs, ends the connection, or is not the one it was.

import Foundation
import Testing
import TestSupport

@testable import Smalloc

/// A kind of client, with an allocation, behind one set of calls.
enum Face: CaseIterable { case blocking, tasks }

private enum Client {
    case blocking(Smalloc, Allocation)
    case tasks(AsyncSmalloc, AsyncAllocation)

    init(_ face: Face, _ address: String) async throws {
        switch face {
        case .blocking:
            let smalloc = try Smalloc(address, options: impatient())
            self = .blocking(smalloc, try smalloc.alloc(100))
        case .tasks:
            let smalloc = try await AsyncSmalloc(address, options: impatient())
            self = .tasks(smalloc, try await smalloc.alloc(100))
        }
    }

    /// Asks for so many elements, one by one.
    func gets(
        _ count: Int
    ) async throws(SmallocError) -> (
        replies: Smalloc.Batch.Replies, tickets: [Smalloc.Batch.Ticket]
    ) {
        var tickets: [Smalloc.Batch.Ticket] = []
        switch self {
        case .blocking(let smalloc, let a):
            let replies = try smalloc.batch { batch in
                for index in 0..<count { tickets.append(batch.get(index, of: a)) }
            }
            return (replies, tickets)
        case .tasks(let smalloc, let a):
            let replies = try await smalloc.batch { batch in
                for index in 0..<count { tickets.append(batch.get(index, of: a)) }
            }
            return (replies, tickets)
        }
    }

    /// Asks for so many elements, and for what reads nothing.
    ///
    /// - Returns: The tickets of the latter.
    func mixed(
        _ reads: Int
    ) async throws(SmallocError) -> (
        replies: Smalloc.Batch.Replies, tickets: [Smalloc.Batch.Ticket]
    ) {
        var tickets: [Smalloc.Batch.Ticket] = []
        switch self {
        case .blocking(let smalloc, let a):
            let replies = try smalloc.batch { batch in
                for index in 0..<reads { batch.get(index, of: a) }
                tickets.append(batch.set(1, at: 0, of: a))
                tickets.append(batch.fill(1, of: a))
                tickets.append(batch.copyOnto(a, 0, a, 1, 1))
                tickets.append(batch.read(0, of: a))
            }
            return (replies, tickets)
        case .tasks(let smalloc, let a):
            let replies = try await smalloc.batch { batch in
                for index in 0..<reads { batch.get(index, of: a) }
                tickets.append(batch.set(1, at: 0, of: a))
                tickets.append(batch.fill(1, of: a))
                tickets.append(batch.copyOnto(a, 0, a, 1, 1))
                tickets.append(batch.read(0, of: a))
            }
            return (replies, tickets)
        }
    }

    func close() {
        switch self {
        case .blocking(let smalloc, _): smalloc.close()
        case .tasks(let smalloc, _): smalloc.close()
        }
    }
}

@Suite("Batches, faults", .timed)
struct BatchFaultTests {
    @Test(
        "why the daemon ends the connection is told", arguments: Face.allCases, [1, 5])
    func closing(_ face: Face, _ count: Int) async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1), let first = peer.receiveFrame() else { return }
            let bye = Array("bye".utf8)
            peer.send(
                peer.reply(first, status: Smalloc.Status.shuttingDown.rawValue, payload: bye).bytes)
        }
        let client = try await Client(face, server.address)
        let error = await failure { () async throws(SmallocError) in
            _ = try await client.gets(count)
        }
        #expect(error?.status == .shuttingDown)
        #expect(error?.message == "bye")
        #expect(error?.isTransport == true)
        let later = await failure { () async throws(SmallocError) in _ = try await client.gets(1) }
        #expect(later?.status == .connectionLost)
        #expect(later?.message.hasSuffix("bye") == true)
    }

    @Test("an answer to another operation ends the connection", arguments: Face.allCases)
    func otherOperation(_ face: Face) async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1), var request = peer.receiveFrame() else { return }
            var bytes = peer.reply(request, type: 2, size: 1, payload: [1]).bytes
            // The second one's, in one go with the first.
            request.cookie += 1
            request.operation = 9
            bytes += peer.reply(request, type: 2, size: 1, payload: [1]).bytes
            peer.send(bytes)
            peer.waitForEnd()
        }
        let client = try await Client(face, server.address)
        let error = await failure { () async throws(SmallocError) in _ = try await client.gets(5) }
        #expect(error?.status == .unexpectedReply)
    }

    @Test(
        "a payload of another size is never taken for the right one", arguments: Face.allCases,
        [0, 2, 300_000])
    func wrongSize(_ face: Face, _ size: Int) async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1), let first = peer.receiveFrame() else { return }
            let payload = [UInt8](repeating: 1, count: size)
            peer.send(peer.reply(first, type: 2, size: 1, payload: payload).bytes)
            while let request = peer.receiveFrame(), peer.answer(request) {}
        }
        let client = try await Client(face, server.address)
        let (replies, tickets) = try await client.gets(2)
        #expect(replies.failure(of: tickets[0])?.status == .unexpectedReply)
        #expect(try replies.number(tickets[1]) == 0)
    }

    @Test("no more is under way than the daemon allows", arguments: Face.allCases)
    func limit(_ face: Face) async throws {
        let tooMany = Guarded(false)
        let server = try FakeServer { peer, _ in
            var limits = Smalloc.Limits()
            limits.requestsInFlightMax = 8
            guard peer.greet(limits), let alloc = peer.receiveFrame(), peer.answer(alloc) else {
                return
            }
            for _ in 0..<5 {
                var requests: [TestFrame] = []
                while requests.count < 8, let request = peer.receiveFrame() {
                    requests.append(request)
                }
                if peer.hasMore { tooMany.withLock { $0 = true } }
                for request in requests where !peer.answer(request) { return }
            }
            while let request = peer.receiveFrame(), peer.answer(request) {}
        }
        let client = try await Client(face, server.address)
        let (replies, tickets) = try await client.gets(40)
        try replies.check()
        #expect(try replies.number(tickets[39]) == 0)
        #expect(!tooMany.withLock { $0 })
    }

    @Test("an answer to what has not been sent yet ends the connection")
    func early() async throws {
        let server = try FakeServer { peer, _ in
            var limits = Smalloc.Limits()
            limits.requestsInFlightMax = 8
            guard peer.greet(limits), let alloc = peer.receiveFrame(), peer.answer(alloc),
                var request = peer.receiveFrame()
            else { return }
            // The first and, in one go with it, the thirteenth and those after it.
            var bytes = peer.reply(request, type: 2, size: 1, payload: [1]).bytes
            request.cookie += 12
            while request.cookie & 0xFF < 20 {
                bytes += peer.reply(request, type: 2, size: 1, payload: [1]).bytes
                request.cookie += 1
            }
            peer.send(bytes)
            peer.waitForEnd()
        }
        let client = try await Client(.tasks, server.address)
        let error = await failure { () async throws(SmallocError) in _ = try await client.gets(20) }
        #expect(error?.status == .unexpectedReply)
    }

    @Test("closed and lost connections", arguments: Face.allCases)
    func over(_ face: Face) async throws {
        let lost = try FakeServer { peer, _ in _ = peer.behave(1) }
        let client = try await Client(face, lost.address)
        // The second time it is known.
        for _ in 0..<2 {
            let error = await failure { () async throws(SmallocError) in
                _ = try await client.gets(5)
            }
            #expect(error?.status == .connectionLost)
        }
        let server = try FakeServer { peer, _ in _ = peer.behave() }
        let other = try await Client(face, server.address)
        other.close()
        let error = await failure { () async throws(SmallocError) in _ = try await other.gets(5) }
        #expect(error?.status == .closed)
    }

    @Test("allocations of an earlier connection fail by themselves, in any place")
    func stale() async throws {
        let server = try FakeServer { peer, number in
            if number == 0 { _ = peer.behave(1) } else { _ = peer.behave() }
        }
        let smalloc = try Smalloc(server.address, options: impatient())
        let old = try smalloc.alloc(1)
        #expect(eventually { failure { () throws(SmallocError) in try old.set(1, at: 0) } != nil })
        let new = try smalloc.alloc(1)
        var tickets: [Smalloc.Batch.Ticket] = []
        let replies = try smalloc.batch { batch in
            tickets.append(batch.get(0, of: old))
            tickets.append(batch.get(0, of: new))
            tickets.append(batch.get(0, of: old))
            tickets.append(batch.copyOnto(new, 0, old, 0, 1))
        }
        for place in [0, 2, 3] {
            #expect(replies.failure(of: tickets[place])?.status == .connectionLost)
        }
        #expect(try replies.number(tickets[1]) == 0)
    }

    @Test("the same by tasks")
    func staleAsync() async throws {
        let server = try FakeServer { peer, number in
            if number == 0 { _ = peer.behave(1) } else { _ = peer.behave() }
        }
        let smalloc = try await AsyncSmalloc(server.address, options: impatient())
        let old = try await smalloc.alloc(1)
        let lost = await failure { () async throws(SmallocError) in _ = try await old.get(0) }
        #expect(lost?.status == .connectionLost)
        let new = try await smalloc.alloc(1)
        var tickets: [Smalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            tickets.append(batch.get(0, of: old))
            tickets.append(batch.get(0, of: new))
            tickets.append(batch.get(0, of: old))
            tickets.append(batch.copyOnto(new, 0, old, 0, 1))
        }
        for place in [0, 2, 3] {
            #expect(replies.failure(of: tickets[place])?.status == .connectionLost)
        }
        #expect(try replies.number(tickets[1]) == 0)
    }

    @Test("copies onto another connection's allocation are refused")
    func foreignCopy() throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(1)
        let foreign = try SharedDaemon.connect().alloc(1)
        let replies = try smalloc.batch { batch in
            batch.copyOnto(a, 0, foreign, 0, 1)
            batch.copyOnto(foreign, 0, a, 0, 1)
        }
        #expect(replies.count == 2)
        #expect(replies.firstFailure?.status == .invalidArgument)
    }

    /// Two bytes that are an `Int16`.
    struct Pair: Smalloc.Element, Equatable {
        var low: UInt8
        var high: UInt8
        static var elementType: ElementType { .int16 }
    }

    /// Sixteen bytes that claim to be eight.
    struct Liar: Smalloc.Element {
        var numbers: (Double, Double)
        static var elementType: ElementType { .double }
    }

    @Test("elements of foreign types are what they claim to be, or refused")
    func elements() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let pairs = try await smalloc.alloc(2, .int16)
        let doubles = try await smalloc.alloc(2, .double)
        let two = [Pair(low: 1, high: 2), Pair(low: 3, high: 4)]
        var tickets: [Smalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            tickets.append(batch.write(two, of: pairs))
            tickets.append(batch.write([Liar(numbers: (1, 2))], of: doubles))
            tickets.append(batch.read(2, of: pairs))
            tickets.append(batch.read(2, of: doubles))
        }
        #expect(replies.failure(of: tickets[1])?.status == .invalidArgument)
        #expect(try replies.array(tickets[2], as: Pair.self) == two)
        let lie = failure { () throws(SmallocError) in
            _ = try replies.array(tickets[3], as: Liar.self)
        }
        #expect(lie?.status == .invalidArgument)
    }

    @Test("what was read is aligned for its elements, whatever was read before it")
    func alignment() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let bytes = try await smalloc.alloc(7)
        let doubles = try await smalloc.alloc(40_000, .double)
        try await doubles.fill(0.5)
        var tickets: [Smalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            for count in [1, 7, 40_000] {
                batch.read(min(count, 7), of: bytes)
                tickets.append(batch.read(count, of: doubles))
            }
        }
        for (ticket, count) in zip(tickets, [1, 7, 40_000]) {
            let memory = try replies.bytes(
                ticket, Double.self, .double, stride: MemoryLayout<Double>.stride)
            #expect(UInt(bitPattern: memory.baseAddress) % 8 == 0)
            let isWhole = try replies.numbers(ticket) == [Double](repeating: 0.5, count: count)
            #expect(isWhole)
        }
    }

    @Test("what reads nothing has no number, wherever it stands", arguments: Face.allCases)
    func nothingRead(_ face: Face) async throws {
        let client = try await Client(face, SharedDaemon.address)
        for reads in 0..<3 {
            let (replies, tickets) = try await client.mixed(reads)
            try replies.check()
            for ticket in tickets {
                let error = failure { () throws(SmallocError) in _ = try replies.number(ticket) }
                #expect(error?.status == .invalidArgument)
                #expect(try replies.numbers(ticket) == [])
                #expect(try replies.array(ticket, as: UInt8.self) == [])
            }
        }
    }

    @Test("batches on the connection's own thread, beside single calls there")
    func executor() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(100, .int32)
        try await withTaskExecutorPreference(smalloc.executor) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for part in 0..<10 {
                    group.addTask {
                        for round in 1...20 {
                            var ticket: Smalloc.Batch.Ticket?
                            let replies = try await smalloc.batch { batch in
                                for index in part * 10..<(part + 1) * 10 {
                                    batch.set(Double(round * index), at: index, of: a)
                                }
                                ticket = batch.read(10, from: part * 10, of: a)
                            }
                            let numbers = try replies.numbers(#require(ticket))
                            let expected = (part * 10..<(part + 1) * 10).map {
                                Double(round * $0)
                            }
                            #expect(numbers == expected)
                            let first = try await a.get(part * 10)
                            #expect(first == expected[0])
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }
}
