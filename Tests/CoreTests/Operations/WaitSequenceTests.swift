// Every short sequence of what can happen to a wait, against a model of a dozen lines: each is
// answered once, by what ended it first, and none is forgotten.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("All sequences of a wait", .timed(seconds: 240))
struct WaitSequenceTests {
    private enum Step: CaseIterable {
        case wait
        case waitWithTime
        case store
        case notifyOne
        case notifyAll
        case dispose
        case cut
        case cancel
        case expire
        case deliver
        case close
    }

    /// What the daemon should do, by the specification.
    private struct Model {
        var value: UInt8 = 0
        var isThere = true
        var isLong = true
        var isOpen = true
        var queued: [(cookie: UInt64, hasTime: Bool)] = []
        /// Cookies and results, in any order.
        var answers: [String] = []

        mutating func end(_ result: String, _ which: (UInt64, Bool) -> Bool = { _, _ in true }) {
            answers += queued.filter { which($0.cookie, $0.hasTime) }.map {
                "\($0.cookie) \(result)"
            }
            queued.removeAll { which($0.cookie, $0.hasTime) }
        }

        mutating func take(_ step: Step, cookie: UInt64) {
            switch step {
            case .wait, .waitWithTime:
                guard isOpen else { break }
                if !isThere {
                    answers.append("\(cookie) noData")
                } else if !isLong {
                    answers.append("\(cookie) outOfRange")
                } else if value != 0 {
                    answers.append("\(cookie) differs")
                } else {
                    queued.append((cookie, step == .waitWithTime))
                }
            case .store: if isThere, isLong { value = 1 }
            case .notifyOne:
                if isThere, isLong, let first = queued.first?.cookie {
                    end("notified") { cookie, _ in cookie == first }
                }
            case .notifyAll: if isThere, isLong { end("notified") }
            case .dispose:
                isThere = false
                end("disposed")
            case .cut:
                if isThere {
                    isLong = false
                    end("disposed")
                }
            case .cancel: if isOpen { end("cancelled") { cookie, _ in cookie == 1 } }
            case .expire: end("timeout") { _, hasTime in hasTime }
            case .deliver: break
            case .close:
                isOpen = false
                queued = []
            }
        }
    }

    @Test("all of five steps")
    func all() {
        let steps = Step.allCases
        // In the night all of six, which takes eleven times as long.
        let length = Scale.count(10) > 10 ? 6 : 5
        var total = 1
        for _ in 0..<length { total *= steps.count }
        var count = 0
        for number in 0..<total {
            var rest = number
            var sequence: [Step] = []
            for _ in 0..<length {
                sequence.append(steps[rest % steps.count])
                rest /= steps.count
            }
            // Without a wait at its start a sequence is a shorter one, or nothing.
            guard sequence[0] == .wait || sequence[0] == .waitWithTime else { continue }
            count += 1
            if let fault = play(sequence) {
                Issue.record("\(sequence): \(fault)")
                return
            }
        }
        #expect(count == total / steps.count * 2)
        #expect(registry.waits.checkInvariants() == 0)
    }

    /// One registry and two loops for all, since a sequence disposes of what it has made.
    private let registry = Registry(limits: SharedLimits(Limits()), loops: 2, warmSizeMax: 0)!

    private let loops: [LoopContext]

    init() {
        let registry = registry
        loops = (0..<2).map { LoopContext(registry: registry, index: $0) }
    }

    private func play(_ sequence: [Step]) -> String? {
        let waiter = TestPeer(loops[0])
        let other = TestPeer(loops[1])
        waiter.feed(frame(.hello))
        other.feed(frame(.hello))
        other.call(.alloc, flags: 2, type: 5, name: "c", size: 8)
        waiter.output = []
        var model = Model()
        var answers: [String] = []
        var cookie: UInt64 = 0
        func collect() {
            for reply in replies(in: waiter.output) ?? [] where reply.header.cookie < 100 {
                let result = WaitResult(rawValue: reply.header.size)?.name ?? "?"
                answers.append(
                    "\(reply.header.cookie) \(reply.status == .ok ? result : reply.status.name)")
            }
            waiter.output = []
        }
        for step in sequence {
            if step == .wait || step == .waitWithTime { cookie += 1 }
            if step == .close {
                // What has ended by now, and was not delivered, is not answered any more.
                collect()
                loops[0].tellWaits()
                collect()
            }
            model.take(step, cookie: cookie)
            take(step, cookie, waiter, other)
        }
        loops[0].tellWaits()
        collect()
        let left = waiter.session.caller.waits?.count ?? 0
        waiter.session.end(loops[0])
        waiter.isClosed = true
        other.call(.dispose, name: "c")
        other.session.end(loops[1])
        other.isClosed = true
        if model.isOpen, left != model.queued.count { return "\(left) wait" }
        if answers.sorted() != model.answers.sorted() {
            return "answered \(answers), expected \(model.answers)"
        }
        return registry.budget.usedSize == 0 ? nil : "\(registry.budget.usedSize) bytes are left"
    }

    private func take(_ step: Step, _ cookie: UInt64, _ waiter: TestPeer, _ other: TestPeer) {
        switch step {
        case .wait, .waitWithTime:
            guard !waiter.isClosed else { return }
            waiter.feed(
                frame(
                    .wait, cookie: cookie, name: "c", offset: 4,
                    size: step == .wait ? .max : 1 << 30, payload: [0, 0, 0, 0]))
        case .store: other.call(.atomic, name: "c", offset: 4, payload: numbers(2, 1, 0))
        case .notifyOne: other.call(.notify, name: "c", offset: 4, size: 1)
        case .notifyAll: other.call(.notify, name: "c", offset: 4, size: .max)
        case .dispose: other.call(.dispose, name: "c")
        case .cut: other.call(.truncate, name: "c", size: 4)
        case .cancel:
            guard !waiter.isClosed else { return }
            waiter.feed(frame(.cancel, cookie: 1000, payload: numbers(1)))
        case .expire:
            // Not told of yet: that is a step of its own.
            _ = waiter.loop.waits.expire(now: .max - 1)
        case .deliver: waiter.loop.tellWaits()
        case .close:
            waiter.session.end(waiter.loop)
            waiter.isClosed = true
        }
    }
}
