// The ring of events by itself: what it holds, what it counts as missed, and its cursors.

import Glibc
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("The ring of events", .timed)
struct EventRingTests {
    private struct Kept: Equatable {
        var kind: EventKind
        var name: [UInt8]
        var newName: [UInt8]
        var size: Int { name.count + newName.count }
    }

    private func ring(run: UInt16 = 7) throws -> EventRing {
        let ring = EventRing(run: run)
        try ring.turnOn(MemoryBudget(limits: SharedLimits(Limits())))
        return ring
    }

    private func add(_ event: Kept, to ring: EventRing) {
        event.name.withUnsafeBytes { name in
            if event.newName.isEmpty { return ring.add(event.kind, name) }
            event.newName.withUnsafeBytes { ring.add(event.kind, name, newName: $0) }
        }
    }

    /// All that is left from a number on, and how many are not.
    private func read(
        _ ring: EventRing, from number: UInt64, prefix: [UInt8] = []
    ) -> (missed: UInt64, events: [Kept], next: UInt64) {
        var number = number
        let missed = ring.passMissed(&number)
        var left = EventRing.capacity
        var events: [Kept] = []
        let looked = prefix.withUnsafeBytes { prefix in
            ring.visit(prefix, from: &number, atMost: &left) {
                events.append(Kept(kind: $0, name: Array($1), newName: Array($2)))
                return true
            }
        }
        #expect(looked == .atEnd)
        return (missed, events, number)
    }

    @Test("nothing is kept before it is turned on, and it is charged from then on")
    func turningOn() throws {
        let budget = MemoryBudget(limits: SharedLimits(Limits()))
        let ring = EventRing(run: 1)
        add(Kept(kind: .allocated, name: [0x61], newName: []), to: ring)
        #expect(ring.next == 0 && budget.usedSize == 0)
        try ring.turnOn(budget)
        try ring.turnOn(budget)
        #expect(ring.next == 0 && budget.usedSize == EventRing.charge)
        add(Kept(kind: .allocated, name: [0x61], newName: []), to: ring)
        #expect(ring.next == 1)
        var limits = Limits()
        limits.memorySizeMax = EventRing.charge - 1
        let small = MemoryBudget(limits: SharedLimits(limits))
        #expect(throws: SmallocError.memoryLimit) { try EventRing(run: 1).turnOn(small) }
        #expect(small.usedSize == 0)
    }

    @Test("random names: what is told is the end of what was added, and the rest is missed")
    func wraps() throws {
        var random = SplitMix(for: "ring of events")
        for longest in [1, 40, 255] {
            let ring = try ring()
            var added: [Kept] = []
            for round in 0..<6 {
                for _ in 0..<[1, 300, 9000, 20_000, 5, 40_000][round] {
                    let isRename = random.next() % 3 == 0
                    let event = Kept(
                        kind: isRename ? .renamed : .disposed,
                        name: random.bytes(1 + Int(random.next() % UInt64(longest))),
                        newName: isRename
                            ? random.bytes(1 + Int(random.next() % UInt64(longest))) : [])
                    add(event, to: ring)
                    added.append(event)
                }
                let (missed, events, next) = read(ring, from: 0)
                #expect(next == UInt64(added.count))
                #expect(missed + UInt64(events.count) == next)
                #expect(events == Array(added.suffix(events.count)))
                // As many as there is room for, but for what is passed over at the memory's end.
                let size = events.reduce(0) { $0 + $1.size }
                #expect(size <= EventRing.namesCapacity)
                if events.count < min(added.count, EventRing.capacity) {
                    #expect(size > EventRing.namesCapacity - 3 * 510)
                }
                if longest <= 32 { #expect(events.count == min(added.count, EventRing.capacity)) }
                // From anywhere in between it is the same.
                let from = random.next() % (next + 1)
                let later = read(ring, from: from)
                #expect(later.missed == (from < missed ? missed - from : 0))
                #expect(later.events == Array(added[Int(max(from, missed))...]))
            }
        }
    }

    @Test("a prefix is looked for in both names")
    func prefixes() throws {
        let ring = try ring()
        for (name, newName) in [("ab", ""), ("a", ""), ("b", "abc"), ("abx", "b"), ("b", "ba")] {
            add(
                Kept(
                    kind: newName.isEmpty ? .allocated : .renamed, name: Array(name.utf8),
                    newName: Array(newName.utf8)), to: ring)
        }
        func names(_ prefix: String) -> [String] {
            read(ring, from: 0, prefix: Array(prefix.utf8)).events.map {
                String(decoding: $0.name, as: UTF8.self)
            }
        }
        #expect(names("ab") == ["ab", "b", "abx"])
        #expect(names("b") == ["b", "abx", "b"])
        #expect(names("abx") == ["abx"])
        #expect(names("c") == [] && names(String(repeating: "a", count: 256)) == [])
        #expect(names("").count == 5)
    }

    @Test("cursors are those of the run, and 0 is now")
    func cursors() throws {
        let ring = try ring(run: 0xFFFF)
        for _ in 0..<3 { add(Kept(kind: .allocated, name: [0x61], newName: []), to: ring) }
        #expect(ring.cursor(2) == 0xFFFF_0000_0000_0002)
        #expect(ring.number(0) == 3)
        for number in UInt64(0)...3 { #expect(ring.number(ring.cursor(number)) == number) }
        #expect(ring.number(ring.cursor(4)) == nil)
        let other = EventRing(run: 0xFFFE)
        for cursor in [1, 3, .max, 1 << 48, other.cursor(0), other.cursor(3)] {
            #expect(ring.number(cursor) == nil, "\(cursor)")
        }
    }

    @Test("looking stops where it was told to, and goes on from there")
    func parts() throws {
        let ring = try ring()
        for index in 0..<1000 {
            add(Kept(kind: .allocated, name: index == 900 ? [2] : [1], newName: []), to: ring)
        }
        var number: UInt64 = 0
        var left = 600
        [UInt8(2)].withUnsafeBytes { prefix in
            #expect(ring.find(prefix, from: &number, atMost: &left) == .enough)
            #expect(number == 600 && left == 0)
            left = 10_000
            #expect(ring.find(prefix, from: &number, atMost: &left) == .found)
            #expect(number == 900)
            number = 901
            #expect(ring.find(prefix, from: &number, atMost: &left) == .atEnd)
            #expect(number == 1000)
        }
    }
}
