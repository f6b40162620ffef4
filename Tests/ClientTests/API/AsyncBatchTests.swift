// Explicit pipelining by tasks, and what becomes of it when things go wrong.

import Foundation
import SmallocSystem
import Testing
import TestSupport

@testable import Smalloc

@Suite("Batches, asynchronous", .timed)
struct AsyncBatchTests {
    @Test("requests take effect in their order, each with its own answer")
    func order() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(4, .int32)
        let b = try await smalloc.alloc(4, .int32)
        var tickets: [AsyncSmalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            tickets.append(batch.set(5, at: 0, of: a))
            tickets.append(batch.get(0, of: a))
            tickets.append(batch.get(4, of: a))
            tickets.append(batch.copyOnto(a, 0, b, 3, 1))
            tickets.append(batch.read(4, of: b))
            tickets.append(batch.write([1, 2] as [Int32], at: 1, of: b))
            tickets.append(batch.fill(9, from: 0, count: 1, of: b))
            tickets.append(batch.read(4, of: b))
            tickets.append(batch.write([1] as [Float], of: b))
            #expect(batch.count == 9)
        }
        #expect(replies.count == 9)
        #expect(try replies.number(tickets[1]) == 5)
        #expect(replies.failure(of: tickets[2])?.message == "start + count > length")
        #expect(try replies.array(tickets[4], as: Int32.self) == [0, 0, 0, 5])
        #expect(try replies.numbers(tickets[7]) == [9, 1, 2, 5])
        #expect(replies.failure(of: tickets[8])?.status == .invalidArgument)
        #expect(replies.firstFailure?.status == .outOfRange)
        var four = [Int32](repeating: 7, count: 4)
        try replies.read(tickets[7], into: &four)
        #expect(four == [9, 1, 2, 5])
        var three = [Int32](repeating: 7, count: 3)
        #expect(
            failure { () throws(SmallocError) in try replies.read(tickets[7], into: &three) }?
                .status == .invalidArgument)
        var foreign = [Float](repeating: 7, count: 4)
        #expect(
            failure { () throws(SmallocError) in try replies.read(tickets[7], into: &foreign) }?
                .status == .invalidArgument)
        #expect(
            failure { () throws(SmallocError) in try replies.read(tickets[2], into: &three) }?
                .status == .outOfRange)
    }

    @Test("an empty batch does nothing, and one that only fails sends nothing")
    func empty() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        #expect(try await smalloc.batch { _ in }.count == 0)
        let foreign = try await SharedDaemon.connectAsync().alloc(1)
        let replies = try await smalloc.batch { $0.set(1, at: 0, of: foreign) }
        #expect(replies.count == 1)
        #expect(replies.firstFailure?.status == .invalidArgument)
    }

    @Test("more requests than may be in flight, beside other calls")
    func many() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(20_000)
        let b = try await smalloc.alloc(1000)
        try await b.fill(3)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for part in 0..<4 {
                group.addTask {
                    var tickets: [AsyncSmalloc.Batch.Ticket] = []
                    let replies = try await smalloc.batch { batch in
                        for index in part * 5000..<(part + 1) * 5000 {
                            batch.set(Double(index % 251), at: index, of: a)
                            tickets.append(batch.read(1000, of: b))
                        }
                    }
                    try replies.check()
                    for ticket in tickets {
                        let read = try replies.array(ticket, as: UInt8.self)
                        #expect(read.count == 1000 && read.allSatisfy { $0 == 3 })
                    }
                }
                group.addTask {
                    for _ in 0..<200 {
                        let number = try await b.get(999)
                        #expect(number == 3)
                    }
                }
            }
            try await group.waitForAll()
        }
        let numbers = try await a.numbers()
        #expect(numbers == (0..<20_000).map { Double($0 % 251) })
    }

    @Test("large payloads, to and fro, and odd sizes between them")
    func large() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(300_000, .double)
        let b = try await smalloc.alloc(3)
        let numbers = (0..<300_000).map { Double($0) }
        var tickets: [AsyncSmalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            batch.write(numbers, of: a)
            batch.write([1, 2, 3] as [UInt8], of: b)
            for _ in 0..<3 {
                tickets.append(batch.read(3, of: b))
                tickets.append(batch.read(300_000, of: a))
            }
        }
        try replies.check()
        for index in 0..<3 {
            #expect(try replies.array(tickets[index * 2], as: UInt8.self) == [1, 2, 3])
            let read = try replies.array(tickets[index * 2 + 1], as: Double.self)
            let isSame = read == numbers
            #expect(isSame)
        }
    }

    @Test("allocations of other connections and disposed ones fail by themselves")
    func foreign() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(1)
        let foreign = try await SharedDaemon.connectAsync().alloc(1)
        let gone = try await smalloc.alloc(1)
        try await gone.dispose()
        var tickets: [AsyncSmalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            tickets.append(batch.set(1, at: 0, of: foreign))
            tickets.append(batch.set(1, at: 0, of: gone))
            tickets.append(batch.copyOnto(a, 0, gone, 0, 1))
            tickets.append(batch.copyOnto(gone, 0, a, 0, 1))
            tickets.append(batch.copyOnto(a, 0, foreign, 0, 1))
            tickets.append(batch.set(1, at: 0, of: a))
        }
        #expect(replies.failure(of: tickets[0])?.status == .invalidArgument)
        #expect(replies.failure(of: tickets[1])?.status == .noData)
        #expect(replies.failure(of: tickets[2])?.message == "dest has no external array data")
        #expect(replies.failure(of: tickets[3])?.message == "source has no external array data")
        #expect(replies.failure(of: tickets[4])?.status == .invalidArgument)
        #expect(replies.failure(of: tickets[5]) == nil)
        #expect(try await a.get(0) == 1)
    }

    @Test("what is disposed of while it is gathered is not asked: its handle may be another's")
    func disposedMeanwhile() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(1)
        let gone = try await smalloc.alloc(1)
        let successor = Guarded<AsyncAllocation?>(nil)
        var tickets: [AsyncSmalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            tickets.append(batch.set(7, at: 0, of: a))
            tickets.append(batch.set(7, at: 0, of: gone))
            tickets.append(batch.copyOnto(a, 0, gone, 0, 1))
            tickets.append(batch.copyOnto(gone, 0, a, 0, 1))
            tickets.append(batch.get(0, of: a))
            let done = Gate()
            Task.detached {
                try await gone.dispose()
                // Takes the number of the handle.
                let next = try await smalloc.alloc(1)
                successor.withLock { $0 = next }
                done.open()
            }
            done.wait()
        }
        #expect(replies.failure(of: tickets[0]) == nil)
        #expect(replies.failure(of: tickets[1])?.status == .noData)
        #expect(replies.failure(of: tickets[2])?.message == "dest has no external array data")
        #expect(replies.failure(of: tickets[3])?.message == "source has no external array data")
        #expect(try replies.number(tickets[4]) == 7)
        let next = try #require(successor.withLock { $0 })
        #expect(try await next.get(0) == 0)
    }

    @Test("answers are found by their cookies, in whatever order they come")
    func disorder() async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            var requests: [TestFrame] = []
            while requests.count < 5, let request = peer.receiveFrame() { requests.append(request) }
            for request in requests.reversed() {
                let number = UInt8(truncatingIfNeeded: request.offset)
                peer.send(peer.reply(request, type: 2, size: 1, payload: [number]).bytes)
            }
            peer.waitForEnd()
        }
        let smalloc = try await AsyncSmalloc(server.address, options: impatient())
        let a = try await smalloc.alloc(5)
        var tickets: [AsyncSmalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            for index in 0..<5 { tickets.append(batch.get(index, of: a)) }
        }
        for index in 0..<5 { #expect(try replies.number(tickets[index]) == Double(index)) }
    }

    @Test("an answer that was not asked for, or twice, ends the connection", arguments: [0, 1, 2])
    func strange(_ kind: Int) async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1), var request = peer.receiveFrame() else { return }
            switch kind {
            case 0:
                // The same twice.
                guard peer.answer(request), peer.answer(request) else { return }
            case 1:
                request.cookie += 9
                guard peer.answer(request) else { return }
            default:
                request.cookie |= 0x7FFF_FFFF << 32
                guard peer.answer(request) else { return }
            }
            peer.waitForEnd()
        }
        let smalloc = try await AsyncSmalloc(server.address, options: impatient())
        let a = try await smalloc.alloc(5)
        let error = await failure { () async throws(SmallocError) in
            _ = try await smalloc.batch { batch in
                for index in 0..<5 { batch.get(index, of: a) }
            }
        }
        #expect(error?.status == .unexpectedReply)
    }

    @Test("a payload of another size fails its request and no other")
    func wrongSize() async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1), let first = peer.receiveFrame() else { return }
            peer.send(peer.reply(first, type: 2, size: 1, payload: [1, 2]).bytes)
            while let request = peer.receiveFrame(), peer.answer(request) {}
        }
        let smalloc = try await AsyncSmalloc(server.address, options: impatient())
        let a = try await smalloc.alloc(5)
        var tickets: [AsyncSmalloc.Batch.Ticket] = []
        let replies = try await smalloc.batch { batch in
            for index in 0..<2 { tickets.append(batch.get(index, of: a)) }
        }
        #expect(replies.failure(of: tickets[0])?.status == .unexpectedReply)
        #expect(try replies.number(tickets[1]) == 0)
    }

    @Test(
        "late and cancelled batches end their own waiting and nothing else", arguments: [8, 1024])
    func late(_ most: Int) async throws {
        let gate = Gate()
        let writes = Guarded(0)
        let server = try FakeServer { peer, _ in
            var limits = Smalloc.Limits()
            limits.requestsInFlightMax = UInt64(most)
            guard peer.greet(limits), let alloc = peer.receiveFrame(), peer.answer(alloc) else {
                return
            }
            gate.wait()
            while let request = peer.receiveFrame(), peer.answer(request) {
                if request.operation == 9 { writes.withLock { $0 += 1 } }
            }
        }
        let smalloc = try await AsyncSmalloc(server.address, options: impatient())
        let a = try await smalloc.alloc(100)
        let cancelled = Task {
            await failure { () async throws(SmallocError) in
                _ = try await smalloc.batch { batch in
                    for index in 0..<20 { batch.set(1, at: index, of: a) }
                }
            }
        }
        try await Task.sleep(for: .milliseconds(50))
        cancelled.cancel()
        #expect(await cancelled.value?.status == .cancelled)
        let late = await failure { () async throws(SmallocError) in
            _ = try await smalloc.batch { batch in
                for index in 0..<20 { batch.get(index, of: a) }
            }
        }
        #expect(late?.status == .timedOut)
        gate.open()
        var ticket: AsyncSmalloc.Batch.Ticket?
        let replies = try await smalloc.batch { ticket = $0.get(0, of: a) }
        #expect(try replies.number(#require(ticket)) == 0)
        #expect(server.accepted == 1)
        // What was cancelled before it could be sent is not sent.
        #expect(writes.withLock { $0 } == min(20, most))
        // No place is kept for what will never come.
        let link = try await smalloc.connection.link().link
        #expect(link.lock.withLock { link.session.pending.count + link.session.inFlight } == 0)
        #expect(link.unsentPlaces == 0)
    }

    @Test("the end of the connection ends a batch")
    func end() async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            for _ in 0..<3 { _ = peer.receiveFrame().map(peer.answer) }
        }
        let smalloc = try await AsyncSmalloc(server.address, options: impatient())
        let a = try await smalloc.alloc(100)
        let error = await failure { () async throws(SmallocError) in
            _ = try await smalloc.batch { batch in
                for index in 0..<20 { batch.get(index, of: a) }
            }
        }
        #expect(error?.status == .connectionLost)
    }
}
