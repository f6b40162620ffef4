// The values of a line of text as bytes, read in parts.

internal import SmallocWire

/// The values of one `write` line, as far as they are read.
final class Encoding {
    /// Bytes that a line may take without being charged for them.
    private static let freeSize: UInt64 = 128 << 10

    private var output = Output(capacity: 256)
    private var type: ElementType
    private var done = 0
    /// What was charged for the bytes.
    private var charge: UInt64 = 0
    private let budget: MemoryBudget

    init(_ type: ElementType, _ budget: MemoryBudget) {
        self.type = type
        self.budget = budget
    }

    deinit { budget.uncharge(buffer: charge) }

    /// The bytes, once `read` has said that all is read.
    var values: UnsafeRawBufferPointer { output.bytes }

    /// Begins anew if the name stands for an allocation of another type by now.
    func restart(as type: ElementType) throws(SmallocError) {
        guard type != self.type else { return }
        self.type = type
        done = 0
        output.reset(keeping: 256)
    }

    /// Reads some more.
    ///
    /// - Returns: Whether that was all.
    func read(_ words: RawSpan) throws(SmallocError) -> Bool {
        // Read already, and served again for another reason.
        if done == words.byteCount, done > 0 { return true }
        let isAll = try TextValues.encode(
            words, as: type, from: &done, sizeMax: Thresholds.lineSliceSize, to: &output)
        // Its memory has grown to twice what it holds at the most.
        let wanted = UInt64(2 * output.count)
        if wanted > charge, wanted > Encoding.freeSize {
            guard budget.charge(buffer: wanted - charge) else { throw .memoryLimit }
            charge = wanted
        }
        return isAll
    }
}
