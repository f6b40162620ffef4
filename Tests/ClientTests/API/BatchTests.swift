// Explicit pipelining.

import Smalloc
import Testing
import TestSupport

@Suite("Batches", .timed)
struct BatchTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("requests take effect in their order, each with its own answer")
    func order() throws {
        let a = try smalloc.alloc(4, .int32)
        let b = try smalloc.alloc(4, .int32)
        var tickets: [Smalloc.Batch.Ticket] = []
        let replies = try smalloc.batch { batch in
            tickets.append(batch.set(5, at: 0, of: a))
            tickets.append(batch.get(0, of: a))
            tickets.append(batch.get(4, of: a))
            tickets.append(batch.copyOnto(a, 0, b, 3, 1))
            tickets.append(batch.read(4, of: b))
            tickets.append(batch.write([1, 2] as [Int32], at: 1, of: b))
            tickets.append(batch.fill(9, from: 0, count: 1, of: b))
            tickets.append(batch.read(4, of: b))
            tickets.append(batch.write([1] as [Float], of: b))
        }
        #expect(replies.count == 9)
        #expect(try replies.number(tickets[1]) == 5)
        #expect(replies.failure(of: tickets[2])?.message == "start + count > length")
        #expect(try replies.array(tickets[4], as: Int32.self) == [0, 0, 0, 5])
        #expect(try replies.numbers(tickets[7]) == [9, 1, 2, 5])
        #expect(replies.failure(of: tickets[8])?.status == .invalidArgument)
        #expect(replies.firstFailure?.status == .outOfRange)
    }

    @Test("an empty batch does nothing")
    func empty() throws {
        #expect(try smalloc.batch { _ in }.count == 0)
    }

    @Test("more requests than may be in flight, with more bytes than the sockets hold")
    func many() throws {
        let a = try smalloc.alloc(20_000)
        let b = try smalloc.alloc(1000)
        let replies = try smalloc.batch { batch in
            for index in 0..<20_000 {
                batch.set(Double(index % 251), at: index, of: a)
                batch.read(1000, of: b)
            }
        }
        try replies.check()
        #expect(try a.numbers() == (0..<20_000).map { Double($0 % 251) })
    }

    @Test("allocations of other connections and disposed ones fail by themselves")
    func foreign() throws {
        let a = try smalloc.alloc(1)
        let foreign = try SharedDaemon.connect().alloc(1)
        let gone = try smalloc.alloc(1)
        try gone.dispose()
        var tickets: [Smalloc.Batch.Ticket] = []
        let replies = try smalloc.batch { batch in
            tickets.append(batch.set(1, at: 0, of: foreign))
            tickets.append(batch.set(1, at: 0, of: gone))
            tickets.append(batch.copyOnto(a, 0, gone, 0, 1))
            tickets.append(batch.set(1, at: 0, of: a))
        }
        #expect(replies.failure(of: tickets[0])?.status == .invalidArgument)
        #expect(replies.failure(of: tickets[1])?.status == .noData)
        #expect(replies.failure(of: tickets[2])?.message == "dest has no external array data")
        #expect(replies.failure(of: tickets[3]) == nil)
        #expect(a[0] == 1)
    }

    @Test("what is disposed of while it is gathered is not asked: its handle may be another's")
    func disposedMeanwhile() throws {
        let a = try smalloc.alloc(1)
        let gone = try smalloc.alloc(1)
        var successor: Allocation?
        var tickets: [Smalloc.Batch.Ticket] = []
        let replies = try smalloc.batch { batch in
            tickets.append(batch.set(7, at: 0, of: gone))
            tickets.append(batch.set(7, at: 0, of: a))
            tickets.append(batch.copyOnto(a, 0, gone, 0, 1))
            tickets.append(batch.get(0, of: a))
            try? gone.dispose()
            // Takes the number of the handle.
            successor = try? smalloc.alloc(1)
        }
        #expect(replies.failure(of: tickets[0])?.status == .noData)
        #expect(replies.failure(of: tickets[1]) == nil)
        #expect(replies.failure(of: tickets[2])?.message == "dest has no external array data")
        #expect(try replies.number(tickets[3]) == 7)
        #expect(try #require(successor).get(0) == 0)
    }
}
