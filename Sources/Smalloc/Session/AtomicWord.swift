// Atomic access to memory of this process by `AtomicAction`, such that the compiler folds it to one
// instruction. Swift's atomics are types, and not generic: so it is written for each size.

public import SmallocWire
public import Synchronization

/// An integer that the processor changes atomically.
@usableFromInline
protocol AtomicWord: FixedWidthInteger {
    /// Does one action to an aligned cell, sequentially consistent.
    ///
    /// - Returns: What it held before.
    static func act(
        _ cell: UnsafeMutableRawPointer, _ action: AtomicAction, _ operand: Self, _ expected: Self
    ) -> Self
}

extension AtomicWord {
    /// The same with the bits of another integer of the same size.
    @inlinable @inline(__always)
    static func act<Value: FixedWidthInteger>(
        on cell: UnsafeMutableRawPointer, _ action: AtomicAction, _ operand: Value,
        _ expected: Value
    ) -> Value {
        Value(
            truncatingIfNeeded: act(
                cell, action, Self(truncatingIfNeeded: operand),
                Self(truncatingIfNeeded: expected)))
    }
}

extension UInt8: AtomicWord {
    @inlinable @inline(__always)
    static func act(
        _ cell: UnsafeMutableRawPointer, _ action: AtomicAction, _ operand: UInt8, _ expected: UInt8
    ) -> UInt8 {
        let cell = cell.assumingMemoryBound(to: Atomic<UInt8>.self)
        return switch action {
        case .load: cell.pointee.load(ordering: .sequentiallyConsistent)
        case .store, .exchange: cell.pointee.exchange(operand, ordering: .sequentiallyConsistent)
        case .add: cell.pointee.wrappingAdd(operand, ordering: .sequentiallyConsistent).oldValue
        case .sub:
            cell.pointee.wrappingSubtract(operand, ordering: .sequentiallyConsistent).oldValue
        case .and: cell.pointee.bitwiseAnd(operand, ordering: .sequentiallyConsistent).oldValue
        case .or: cell.pointee.bitwiseOr(operand, ordering: .sequentiallyConsistent).oldValue
        case .xor: cell.pointee.bitwiseXor(operand, ordering: .sequentiallyConsistent).oldValue
        case .compareExchange:
            cell.pointee.compareExchange(
                expected: expected, desired: operand, ordering: .sequentiallyConsistent
            ).original
        }
    }
}

extension UInt16: AtomicWord {
    @inlinable @inline(__always)
    static func act(
        _ cell: UnsafeMutableRawPointer, _ action: AtomicAction, _ operand: UInt16,
        _ expected: UInt16
    ) -> UInt16 {
        let cell = cell.assumingMemoryBound(to: Atomic<UInt16>.self)
        return switch action {
        case .load: cell.pointee.load(ordering: .sequentiallyConsistent)
        case .store, .exchange: cell.pointee.exchange(operand, ordering: .sequentiallyConsistent)
        case .add: cell.pointee.wrappingAdd(operand, ordering: .sequentiallyConsistent).oldValue
        case .sub:
            cell.pointee.wrappingSubtract(operand, ordering: .sequentiallyConsistent).oldValue
        case .and: cell.pointee.bitwiseAnd(operand, ordering: .sequentiallyConsistent).oldValue
        case .or: cell.pointee.bitwiseOr(operand, ordering: .sequentiallyConsistent).oldValue
        case .xor: cell.pointee.bitwiseXor(operand, ordering: .sequentiallyConsistent).oldValue
        case .compareExchange:
            cell.pointee.compareExchange(
                expected: expected, desired: operand, ordering: .sequentiallyConsistent
            ).original
        }
    }
}

extension UInt32: AtomicWord {
    @inlinable @inline(__always)
    static func act(
        _ cell: UnsafeMutableRawPointer, _ action: AtomicAction, _ operand: UInt32,
        _ expected: UInt32
    ) -> UInt32 {
        let cell = cell.assumingMemoryBound(to: Atomic<UInt32>.self)
        return switch action {
        case .load: cell.pointee.load(ordering: .sequentiallyConsistent)
        case .store, .exchange: cell.pointee.exchange(operand, ordering: .sequentiallyConsistent)
        case .add: cell.pointee.wrappingAdd(operand, ordering: .sequentiallyConsistent).oldValue
        case .sub:
            cell.pointee.wrappingSubtract(operand, ordering: .sequentiallyConsistent).oldValue
        case .and: cell.pointee.bitwiseAnd(operand, ordering: .sequentiallyConsistent).oldValue
        case .or: cell.pointee.bitwiseOr(operand, ordering: .sequentiallyConsistent).oldValue
        case .xor: cell.pointee.bitwiseXor(operand, ordering: .sequentiallyConsistent).oldValue
        case .compareExchange:
            cell.pointee.compareExchange(
                expected: expected, desired: operand, ordering: .sequentiallyConsistent
            ).original
        }
    }
}

extension UInt64: AtomicWord {
    @inlinable @inline(__always)
    static func act(
        _ cell: UnsafeMutableRawPointer, _ action: AtomicAction, _ operand: UInt64,
        _ expected: UInt64
    ) -> UInt64 {
        let cell = cell.assumingMemoryBound(to: Atomic<UInt64>.self)
        return switch action {
        case .load: cell.pointee.load(ordering: .sequentiallyConsistent)
        case .store, .exchange: cell.pointee.exchange(operand, ordering: .sequentiallyConsistent)
        case .add: cell.pointee.wrappingAdd(operand, ordering: .sequentiallyConsistent).oldValue
        case .sub:
            cell.pointee.wrappingSubtract(operand, ordering: .sequentiallyConsistent).oldValue
        case .and: cell.pointee.bitwiseAnd(operand, ordering: .sequentiallyConsistent).oldValue
        case .or: cell.pointee.bitwiseOr(operand, ordering: .sequentiallyConsistent).oldValue
        case .xor: cell.pointee.bitwiseXor(operand, ordering: .sequentiallyConsistent).oldValue
        case .compareExchange:
            cell.pointee.compareExchange(
                expected: expected, desired: operand, ordering: .sequentiallyConsistent
            ).original
        }
    }
}
