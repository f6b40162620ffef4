import SmallocWire
import Testing
import TestSupport

@Suite("Descriptions of allocations", .timed)
struct DescriptionTests {
    private enum Outcome: Equatable {
        case described([UInt64]?, [UInt8])
        case refused(Status)
    }

    private func outcome(_ body: () throws(SmallocError) -> Description) -> Outcome {
        do throws(SmallocError) {
            let description = try body()
            var metadata = [UInt8](repeating: 0xAA, count: description.metadataSize)
            metadata.withUnsafeMutableBytes { bytes in
                if let start = bytes.baseAddress { description.copyMetadata(to: start) }
            }
            let shape = description.shape.map { shape in (0..<shape.rank).map { shape[$0] } }
            return .described(shape, metadata)
        } catch {
            return .refused(error.status)
        }
    }

    private func frame(_ bytes: [UInt8], isLeased: Bool = false) -> Outcome {
        bytes.withUnsafeBytes { bytes in
            outcome { () throws(SmallocError) in
                try Description(.bytes(RawSpan(_unsafeBytes: bytes)), isLeased: isLeased)
            }
        }
    }

    private func words(_ words: String) -> Outcome {
        withSpan(words) { words in
            outcome { () throws(SmallocError) in
                try Description(.words(words), isLeased: false)
            }
        }
    }

    /// The lease that a frame or words tell; nil: there is none, or they are refused.
    private func lease(_ bytes: [UInt8]) -> UInt64? {
        bytes.withUnsafeBytes { bytes in
            (try? Description(.bytes(RawSpan(_unsafeBytes: bytes)), isLeased: true))?.lease
        }
    }

    private func lease(_ words: String) -> UInt64? {
        withSpan(words) { words in (try? Description(.words(words), isLeased: true))?.lease }
    }

    @Test("a lease is a number of milliseconds, and the largest is none")
    func leases() {
        for time in [0, 1, 30_000, 1 << 63, UInt64.max - 1] {
            #expect(lease(payload([2], [1], lease: time)) == time)
            #expect(lease("lease=\(time)") == time)
            #expect(lease("shape=2 LEASE=\(time) meta=base64:AQ==") == time)
            // Only with the flag.
            let refused = Outcome.refused(.malformedRequest)
            #expect(frame(payload(nil, lease: time)) == (time == 0 ? .described(nil, []) : refused))
            #expect(
                frame(payload([2], [1], lease: time), isLeased: true) == .described([2], [1]))
        }
        for none in [lease(payload(nil, lease: .max)), lease("lease=18446744073709551616")] {
            #expect(none == nil)
        }
        for word in ["lease=", "lease=-1", "lease=+1", "lease=1s", "lease=1.5", "lease= 1"] {
            #expect(words(word) == .refused(.invalidArgument), "\(word)")
        }
    }

    private func numbers(_ values: [UInt64]) -> [UInt8] {
        values.flatMap { withUnsafeBytes(of: $0.littleEndian) { Array($0) } }
    }

    private func payload(
        _ shape: [UInt64]?, _ metadata: [UInt8] = [], rank: UInt64? = nil, lease: UInt64 = 0,
        size: Int? = nil
    ) -> [UInt8] {
        let size = size ?? metadata.count
        return numbers([rank ?? shape.map { UInt64($0.count) } ?? .max] + (shape ?? []) + [lease])
            + [UInt8(truncatingIfNeeded: size), UInt8(truncatingIfNeeded: size >> 8)] + metadata
    }

    @Test("a frame's is read as it is written")
    func frames() {
        for rank in 0...8 {
            let shape = (0..<rank).map { UInt64.max - UInt64($0) }
            for size in [0, 1, 255, 256] {
                let metadata = (0..<size).map { UInt8(truncatingIfNeeded: $0) }
                #expect(frame(payload(shape, metadata)) == .described(shape, metadata))
                #expect(frame(payload(nil, metadata)) == .described(nil, metadata))
            }
        }
    }

    @Test("a frame's is refused at each of its fields, and one that is cut anywhere is malformed")
    func malformedFrames() {
        #expect(frame(payload([1], rank: 9)) == .refused(.invalidArgument))
        #expect(frame(payload([1], rank: .max - 1)) == .refused(.invalidArgument))
        #expect(frame(numbers([1 << 61])) == .refused(.invalidArgument))
        #expect(frame(payload([1], lease: 1)) == .refused(.malformedRequest))
        #expect(frame(payload([1], lease: .max)) == .refused(.malformedRequest))
        #expect(
            frame(payload(nil, [UInt8](repeating: 1, count: 257))) == .refused(.invalidArgument))
        #expect(frame(payload(nil, [], size: 65_535)) == .refused(.invalidArgument))
        #expect(frame(payload(nil, [], size: 1)) == .refused(.malformedRequest))
        #expect(frame(payload(nil, [1, 2], size: 1)) == .refused(.malformedRequest))
        let whole = payload([2, 3], [7, 8, 9])
        for size in 0..<whole.count {
            #expect(frame(Array(whole.prefix(size))) == .refused(.malformedRequest), "\(size)")
        }
        #expect(frame(whole + [0]) == .refused(.malformedRequest))
    }

    @Test("random bytes are read or refused, and never more than is there")
    func randomFrames() {
        var random = SplitMix(for: "descriptions")
        for _ in 0..<20_000 {
            var bytes = payload(
                (0..<random.next() % 9).map { _ in random.next() % 3 },
                random.bytes(Int(random.next() % 40)))
            for _ in 0..<random.next() % 3 {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(random.next() % 256)
            }
            if random.next() % 4 == 0 { bytes.removeLast(Int(random.next() % 8)) }
            if case .described(let shape, let metadata) = frame(bytes) {
                #expect(payload(shape, metadata) == bytes, "SMALLOC_SEED=\(random.seed)")
            }
        }
    }

    @Test("a line's words are read in any order and any case")
    func lines() {
        #expect(words("shape=512x256") == .described([512, 256], []))
        #expect(words(" META=base64:AQID\tShape=3X02 ") == .described([3, 2], [1, 2, 3]))
        #expect(words("shape=SCALAR meta=BASE64:") == .described([], []))
        #expect(words("meta=base64:AQ") == .described(nil, [1]))
        #expect(words("shape=0") == .described([0], []))
        #expect(words("shape=18446744073709551616") == .described([.max], []))
        #expect(words("") == .described(nil, []))
    }

    @Test(
        "a line's words are refused",
        arguments: [
            "shape=", "shape=x", "shape=1x", "shape=x1", "shape=1xx1", "shape=+1", "shape=-1",
            "shape=1.0", "shape=1,2", "shape=scala", "shape=scalar1", "shape=1x1x1x1x1x1x1x1x1",
            "shape=0x10x", "shape=١", "meta=", "meta=AQ==", "meta=hex:00", "meta=base64:A",
            "meta=base64:!!!!", "shape=8x",
        ])
    func malformedLines(_ text: String) { #expect(words(text) == .refused(.invalidArgument)) }

    @Test("metadata of a line has 256 bytes at most")
    func longMetadata() {
        // A digit is 6 bits.
        #expect(
            words("meta=base64:" + String(repeating: "A", count: 342))
                == .described(nil, [UInt8](repeating: 0, count: 256)))
        for count in [343, 344, 346, 348, 1000, 100_000] {
            #expect(
                words("meta=base64:" + String(repeating: "A", count: count))
                    == .refused(.invalidArgument), "\(count)")
        }
    }

    @Test("the length of a shape is the product of its dimensions, or none where that overflows")
    func lengths() {
        func length(_ dimensions: [UInt64]) -> UInt64? {
            var shape = Shape()
            let isWhole = dimensions.allSatisfy { shape.append($0) }
            #expect(isWhole)
            return shape.length
        }
        #expect(length([]) == 1)
        #expect(length([7]) == 7)
        #expect(length([512, 256]) == 131_072)
        #expect(length([.max, 1, 1]) == .max)
        #expect(length([1 << 32, 1 << 32]) == nil)
        #expect(length([1 << 32, 1 << 32, 0]) == 0)
        #expect(length([0, .max, .max]) == 0)
        #expect(length(Array(repeating: 256, count: 8)) == nil)
        #expect(length(Array(repeating: 255, count: 8)) == 17_878_103_347_812_890_625)
        var full = Shape()
        let added = (0..<9).filter { _ in full.append(1) }
        #expect(added.count == 8)
        #expect(full.rank == 8)
    }

    @Test("shapes are printed as they are read, and compared by rank and dimensions")
    func text() {
        for text in ["scalar", "0", "7", "512x256", "18446744073709551615x0x7", "1x1x1x1x1x1x1x1"] {
            #expect(withSpan(text) { Shape(text: $0) }?.description == text)
        }
        #expect(withSpan("1x1") { Shape(text: $0) } != withSpan("1") { Shape(text: $0) })
        #expect(withSpan("1x2") { Shape(text: $0) } != withSpan("2x1") { Shape(text: $0) })
        #expect(withSpan("1x2") { Shape(text: $0) } == withSpan("01X2") { Shape(text: $0) })
    }
}
