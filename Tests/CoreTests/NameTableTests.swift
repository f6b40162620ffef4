import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Name table")
struct NameTableTests {
    private static let budget = MemoryBudget(limits: SharedLimits(Limits()))
    private static let mappings = MappingPool(budget: budget, cleanSizeMax: 0)

    private func make(_ name: String) -> Allocation {
        Array(name.utf8).withUnsafeBytes {
            Allocation.make(
                name: $0, type: .uint8, size: 0, created: 0, mappings: NameTableTests.mappings)!
        }
    }

    private func destroy(_ allocation: Allocation) {
        _ = allocation.destroy(mappings: NameTableTests.mappings)
    }

    private func find(
        _ table: borrowing NameTable, _ name: String, tag: UInt64
    ) -> Allocation? {
        Array(name.utf8).withUnsafeBytes { table.find($0, tag: tag) }
    }

    /// How tags are spread: all different, a few, or one for all.
    enum Tags: CaseIterable, Sendable {
        case spread, few, equal, last

        func tag(_ number: Int) -> UInt64 {
            switch self {
            case .spread: (UInt64(number) &* 0x9E37_79B9_7F4A_7C15) >> 48
            case .few: UInt64(number % 3) * 30_000
            case .equal: 777
            case .last: 0xFFFF - UInt64(number % 2)
            }
        }
    }

    @Test("it does what a dictionary does, over growth and removal", arguments: Tags.allCases)
    func model(_ tags: Tags) {
        var random = SplitMix(for: "name table \(tags)")
        let names = tags == .spread ? 2000 : 150
        let steps = tags == .spread ? 12_000 : 3000
        var table = NameTable()
        var model: [Int: Allocation] = [:]
        for step in 0..<steps {
            let number = Int(random.next() % UInt64(names))
            let name = "n\(number)"
            let tag = tags.tag(number)
            let found = find(table, name, tag: tag)
            #expect(found == model[number])
            let growing = step % 2000 < 1300
            if let allocation = model[number] {
                guard !growing || random.next() % 4 == 0 else { continue }
                let removed = table.remove(allocation, tag: tag)
                #expect(removed)
                let again = table.remove(allocation, tag: tag)
                #expect(!again)
                destroy(allocation)
                model[number] = nil
            } else {
                let allocation = make(name)
                let inserted = table.insert(allocation, tag: tag)
                #expect(inserted)
                model[number] = allocation
            }
            let count = table.count
            #expect(count == model.count)
        }
        var seen: Set<String> = []
        for index in 0..<table.slotCount {
            guard let allocation = table.allocation(at: index) else { continue }
            let isNew = seen.insert(String(decoding: allocation.name, as: UTF8.self)).inserted
            #expect(isNew)
        }
        #expect(seen == Set(model.keys.map { "n\($0)" }))
        for (number, allocation) in model {
            let found = find(table, "n\(number)", tag: tags.tag(number))
            #expect(found == allocation)
        }
        for allocation in model.values { destroy(allocation) }
    }

    @Test("an empty table finds and removes nothing")
    func empty() {
        var table = NameTable()
        let found = find(table, "a", tag: 0)
        #expect(found == nil)
        let allocation = make("a")
        let removed = table.remove(allocation, tag: 0)
        #expect(!removed)
        #expect(table.allocation(at: 0) == nil)
        destroy(allocation)
    }

    @Test("names that start alike, and names of 1 to 255 bytes, are told apart")
    func similar() {
        var table = NameTable()
        let names = (1...255).map { String(repeating: "x", count: $0) }
        let made = names.map { make($0) }
        for allocation in made { _ = table.insert(allocation, tag: 5) }
        for (name, allocation) in zip(names, made) {
            let found = find(table, name, tag: 5)
            #expect(found == allocation)
            let otherTag = find(table, name, tag: 6)
            #expect(otherTag == nil)
        }
        let longer = find(table, String(repeating: "x", count: 256), tag: 5)
        #expect(longer == nil)
        for allocation in made { destroy(allocation) }
    }
}
