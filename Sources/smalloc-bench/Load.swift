import CBench
import Glibc

/// Connections that each send a batch, wait for all its replies, and send the next: the load.
///
/// One thread, raw buffers, one `send` and usually one `recv` a batch; every byte that comes back
/// is compared with what must come. Nothing here knows the protocol.
final class Load {
    /// How replies are waited for.
    enum Waiting {
        /// One connection, blocking calls: the client sleeps until the reply wakes it.
        case blocking
        /// The thread asks each socket again and again and never sleeps, so that the server pays
        /// neither for waking it nor for telling an epoll of it.
        case polling
        /// The thread sleeps when nothing is there: for when it must share a processor.
        case sleeping
    }

    /// What one run came to.
    struct Outcome {
        var jobs = 0
        var nanoseconds: UInt64 = 0
        var p50: Double = 0
        var p99: Double = 0
        /// The time that all but one of a thousand do not exceed.
        var p999: Double = 0
        /// p99 of requests that are due every `interval`.
        var p99OfDue: Double?
        /// The part of the time in turns in which no connection had anything, 0 to 1; when polling.
        ///
        /// A part of the other turns is idle, too.
        var idle: Double = 0
    }

    /// One connection; plain memory.
    struct Lane {
        let fd: Int32
        let batches: UnsafeMutablePointer<Batch>
        let batchCount: Int
        var batch: Int
        var cookie: UInt64
        /// When the first batch of the present job began.
        var started: UInt64 = 0
        /// The next batch begins a job.
        var isFresh = true
        var active = false
        var sendIndex = 0
        var sendOffset = 0
        var replyIndex = 0
        var replyOffset = 0
        /// Whether bytes of the batch are still to be sent.
        var sending = false
    }

    static let bufferSize = 256 << 10
    /// A run that makes no progress for so long has failed, in nanoseconds.
    private static let patience: UInt64 = 60_000_000_000

    let waiting: Waiting
    /// Nanoseconds from one to the next of those whose waits `p99OfDue` tells, for a load that
    /// blocks; 0: nobody is due.
    ///
    /// It asks again as soon as it is answered either way.
    var interval: UInt64 = 0
    private var dueTimes = Histogram()
    /// Whether one that blocks must go on though its time is over.
    var goesOn: () -> Bool = { false }
    private let wires: [Wire]
    private let arena: Arena
    private let lanes: UnsafeMutablePointer<Lane>
    private let laneCount: Int
    let buffer: UnsafeMutableRawPointer
    private let poll: Int32

    /// - Parameters:
    ///   - wires: the connections, greeted; they belong to the load from now on.
    ///   - batches: for each connection the batches that it sends in turn, at least one.
    ///   - arena: where the batches are.
    init(_ wires: [Wire], batches: [[Batch]], arena: Arena, waiting: Waiting) throws {
        self.wires = wires
        self.arena = arena
        self.waiting = waiting
        laneCount = wires.count
        lanes = .allocate(capacity: laneCount)
        buffer = .allocate(byteCount: Self.bufferSize, alignment: 4096)
        buffer.initializeMemory(as: UInt8.self, repeating: 0, count: Self.bufferSize)
        poll = cbench_poll_create()
        guard poll >= 0 else { throw BenchError.last("epoll_create1") }
        for (index, wire) in wires.enumerated() {
            let own = arena.allocate(Batch.self, count: batches[index].count)
            for (place, batch) in batches[index].enumerated() { own[place] = batch }
            (lanes + index).initialize(
                to: Lane(
                    fd: wire.fd, batches: own, batchCount: batches[index].count, batch: 0,
                    cookie: UInt64(index) << 40 | 1))
            guard waiting != .blocking else { continue }
            wire.setNonBlocking()
            guard waiting == .sleeping else { continue }
            guard cbench_poll_add(poll, wire.fd, lanes + index) == 0 else {
                throw BenchError.last("epoll_ctl")
            }
        }
        precondition(waiting != .blocking || laneCount == 1, "one thread can block for one lane")
    }

    deinit {
        close(poll)
        lanes.deallocate()
        buffer.deallocate()
    }

    /// Drives the connections for so long and waits for the last replies.
    func run(seconds: Double) throws -> Outcome {
        var times = Histogram()
        dueTimes = Histogram()
        let start = clockNanoseconds()
        let end = start + UInt64(seconds * 1e9)
        var outcome = Outcome()
        switch waiting {
        case .blocking: try runBlocking(until: end, &outcome, &times)
        case .polling: try runPolling(until: end, &outcome, &times)
        case .sleeping: try runSleeping(until: end, &outcome, &times)
        }
        outcome.nanoseconds = clockNanoseconds() - start
        outcome.idle = min(1, outcome.idle / Double(outcome.nanoseconds))
        outcome.p50 = times.percentile(0.5)
        outcome.p99 = times.percentile(0.99)
        outcome.p999 = times.percentile(0.999)
        if interval > 0 { outcome.p99OfDue = dueTimes.percentile(0.99) }
        return outcome
    }

    /// Does at least so many jobs on one blocking connection; the number of them.
    func run(jobs: Int) throws -> Int {
        precondition(waiting == .blocking, "nobody else waits with patience")
        var outcome = Outcome()
        var times = Histogram()
        while outcome.jobs < jobs { try runBlocking(until: 0, &outcome, &times) }
        return outcome.jobs
    }

    private func runBlocking(
        until end: UInt64, _ outcome: inout Outcome, _ times: inout Histogram
    ) throws {
        var now = clockNanoseconds()
        var due = now
        let lane = lanes
        // Past the end until a job is done, so that what one batch makes and a later one disposes
        // of is gone.
        var jobs = 0
        repeat {
            begin(lane, now)
            while try !send(lane) {}
            jobs = Self.nothing
            while jobs < 0 { jobs = try receive(lane) }
            now = clockNanoseconds()
            if jobs > 0 {
                let started = lane.pointee.started
                times.record(now - started)
                if interval > 0 {
                    dueTimes.record(from: started, to: now, due: &due, every: interval)
                }
            }
            outcome.jobs += jobs
        } while now < end || jobs == 0 || goesOn()
    }

    /// Asks the connections in turn: one that has an answer gets its next batch at once.
    private func runPolling(
        until end: UInt64, _ outcome: inout Outcome, _ times: inout Histogram
    ) throws {
        var now = clockNanoseconds()
        var active = laneCount
        for index in 0..<laneCount {
            begin(lanes + index, now)
            _ = try send(lanes + index)
        }
        var progress = now
        while active > 0 {
            var isIdle = true
            for index in 0..<laneCount {
                let lane = lanes + index
                guard lane.pointee.active else { continue }
                if lane.pointee.sending, try send(lane) { isIdle = false }
                let jobs = try receive(lane)
                if jobs < 0 {
                    if jobs == Self.unfinished { isIdle = false }
                    continue
                }
                isIdle = false
                now = clockNanoseconds()
                if jobs > 0 { times.record(now - lane.pointee.started) }
                outcome.jobs += jobs
                if now >= end && jobs > 0 {
                    active -= 1
                    continue
                }
                begin(lane, now)
                _ = try send(lane)
            }
            let then = now
            now = clockNanoseconds()
            if !isIdle {
                progress = now
            } else {
                // A whole turn for nothing, from the last answer on.
                outcome.idle += Double(now - then)
                if now > progress + Self.patience { throw BenchError.timeout("a measured run") }
            }
        }
    }

    /// Sleeps until a connection has something.
    private func runSleeping(
        until end: UInt64, _ outcome: inout Outcome, _ times: inout Histogram
    ) throws {
        var now = clockNanoseconds()
        var active = laneCount
        var sending = 0
        for index in 0..<laneCount {
            begin(lanes + index, now)
            if try !send(lanes + index) { sending += 1 }
        }
        let eventCount = 64
        let events = UnsafeMutablePointer<UnsafeMutableRawPointer?>.allocate(capacity: eventCount)
        defer { events.deallocate() }
        var progress = now
        while active > 0 {
            let count = cbench_poll_wait(
                poll, events, Int32(eventCount), sending == 0 ? 1000 : 0)
            if count <= 0 && sending == 0 {
                now = clockNanoseconds()
                if now > progress + Self.patience { throw BenchError.timeout("a measured run") }
                continue
            }
            for index in 0..<Int(max(0, count)) {
                guard let pointer = events[index] else { continue }
                let lane = pointer.assumingMemoryBound(to: Lane.self)
                let jobs = try receive(lane)
                if jobs < 0 { continue }
                now = clockNanoseconds()
                progress = now
                if jobs > 0 { times.record(now - lane.pointee.started) }
                outcome.jobs += jobs
                if now >= end && jobs > 0 {
                    active -= 1
                    continue
                }
                begin(lane, now)
                if try !send(lane) { sending += 1 }
            }
            if sending > 0 {
                sending = 0
                for index in 0..<laneCount where lanes[index].sending {
                    if try !send(lanes + index) { sending += 1 }
                }
            }
            now = clockNanoseconds()
        }
    }

    /// What `receive` says of a batch that is not complete: some of it came.
    static let unfinished = -1
    /// Nothing came.
    static let nothing = -2
}
