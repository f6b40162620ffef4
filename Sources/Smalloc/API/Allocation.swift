// A remote allocation as a Swift object: what it is, its elements one by one, and its failures.

internal import SmallocSystem
public import SmallocWire

/// Memory that the daemon holds, as `alloc` and `open` return it.
///
/// Positions, lengths and counts are **elements**; sizes are bytes. An allocation may be used from
/// any thread. It belongs to the connection it was made or opened on. When it is released, its
/// handle is closed; an anonymous allocation is thereby disposed of, a named one stays.
///
/// It is a receiver itself: `let a = Allocation()` is JavaScript's `var a = {}`.
///
/// ## Subscripts and failures
/// A Swift setter can't throw, and a store may fail: out of range, disposed of, connection lost.
/// A failed subscript, read or write, changes nothing; reading gives NaN. The first failure stays
/// with the allocation, and **the next throwing call on it throws it instead of doing its work**
/// (`dispose()` and `close()` do their work first). `throwIfFailed()` asks for it, `lastError`
/// looks at it. One that no call has thrown until the allocation is released goes to
/// `Smalloc.unreportedFailureHandler`, which writes it to standard error. `get(_:)` and
/// `set(_:at:)` throw at once.
public final class Allocation: Smalloc.Holder, Sendable {
    private let state: Locked<State>

    private struct State {
        var view: BlockingView?
        var failure: SmallocError?
        /// After disposal: what it was.
        var type = ElementType.uint8

        /// A slice learns here that its source was disposed of.
        var present: BlockingView? { view?.remote.isGone == true ? nil : view }
    }

    /// An object that holds nothing yet, to be a receiver.
    public init() { state = Locked(State()) }

    init(_ view: BlockingView) { state = Locked(State(view: view, type: view.type)) }

    deinit { if let failure = lastError { Smalloc.report(failure) } }

    /// Itself while it holds data.
    ///
    /// Setting takes over what the other holds.
    public var allocation: Allocation? {
        get { currentView == nil ? nil : self }
        set {
            let view = newValue === self ? currentView : newValue?.currentView
            state.withLock {
                $0.view = view
                if let view { $0.type = view.type }
            }
        }
    }

    // MARK: What it is

    /// Elements, as far as is known here: another client may have truncated it, which `stat` finds
    /// out.
    ///
    /// 0 without data.
    public var length: Int { currentView?.length ?? 0 }

    /// Bytes: `length` times the size of an element.
    public var size: Int { currentView?.size ?? 0 }

    /// What the elements are.
    ///
    /// After disposal, what they were.
    public var type: ElementType { state.withLock { $0.type } }

    /// Its name; nil if it is anonymous or a slice, or holds no data.
    public var name: String? { currentView?.name }

    /// Whether it looks onto another allocation's memory: see `Smalloc.sliceOnto`.
    public var isSlice: Bool { currentView?.isSlice == true }

    // MARK: Elements one by one

    /// An element as a number, read from and stored to the daemon: one round trip each.
    ///
    /// Stores convert as Node's do: see `set(_:at:)`. Neither can throw; see the class for what
    /// becomes of a failure. For more than a few elements use `read`, `write` or a batch.
    ///
    /// - Parameter index: Element, from 0.
    public subscript(index: Int) -> Double {
        get {
            do throws(SmallocError) {
                return try view(or: .noData).get(index)
            } catch {
                fail(error)
                return .nan
            }
        }
        set {
            do throws(SmallocError) {
                try view(or: .noData).set(newValue, at: index)
            } catch {
                fail(error)
            }
        }
    }

    /// Reads one element as a number.
    ///
    /// Exact, for every type whose elements a `Double` can hold; not for `Int64`, `Uint64` and the
    /// complex types, of which nothing is read or stored by way of a `Double`.
    ///
    /// - Parameter index: Element, from 0 to length - 1.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `read`. Node: `obj[index]`.
    public func get(_ index: Int) throws(SmallocError) -> Double {
        try checkedView().get(index)
    }

    /// Stores a number into one element.
    ///
    /// Integer types: NaN and infinities store 0, otherwise truncation toward zero, modulo 2^32,
    /// low bits. `uint8Clamped`: NaN is 0, else clamped to 0...255, ties to even. `float`: nearest
    /// even.
    ///
    /// - Parameters:
    ///   - value: Any number.
    ///   - index: Element, from 0 to length - 1.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `write`. Node: `obj[index] = value`.
    public func set(_ value: Double, at index: Int) throws(SmallocError) {
        try checkedView().set(value, at: index)
    }

    /// Reads one element as it lies in memory.
    ///
    /// - Parameters:
    ///   - index: Element, from 0 to length - 1.
    ///   - element: The Swift type of the elements; must have the allocation's element type.
    /// - Throws: As `read(_:from:count:)`.
    ///
    /// Wire: `read`.
    public func get<Element: Smalloc.Element>(
        _ index: Int, as element: Element.Type
    ) throws(SmallocError) -> Element {
        try read(element, from: index, count: 1)[0]
    }

    /// Writes one element as it lies in memory, converting nothing.
    ///
    /// - Parameters:
    ///   - value: Of the allocation's element type.
    ///   - index: Element, from 0 to length - 1.
    /// - Throws: As `write(_:at:)`.
    ///
    /// Wire: `write`.
    public func set<Element: Smalloc.Element>(
        _ value: Element, at index: Int
    ) throws(SmallocError) {
        try write([value], at: index)
    }

    // MARK: Failures of subscripts

    /// The first failure of a subscript that no call has thrown yet; nil if all went well.
    public var lastError: SmallocError? { state.withLock { $0.failure } }

    /// Throws the first failure of a subscript since the last time one was thrown, and forgets it.
    ///
    /// - Throws: What the subscript met.
    public func throwIfFailed() throws(SmallocError) {
        let failure = state.withLock { state in
            defer { state.failure = nil }
            return state.failure
        }
        if let failure { throw failure }
    }

    private func fail(_ error: SmallocError) {
        state.withLock { if $0.failure == nil { $0.failure = error } }
    }

    // MARK: For the other files

    var currentView: BlockingView? { state.withLock { $0.present } }

    /// What it looks at, or the error that says that there is nothing.
    func view(or error: SmallocError) throws(SmallocError) -> BlockingView {
        guard let view = currentView else { throw error }
        return view
    }

    /// The same for a throwing call: an earlier failure comes first.
    func checkedView(or error: SmallocError = .noData) throws(SmallocError) -> BlockingView {
        let (failure, view) = state.withLock { state in
            defer { state.failure = nil }
            return (state.failure, state.present)
        }
        if let failure { throw failure }
        guard let view else { throw error }
        return view
    }

    /// Lets go of the memory, for `dispose` and `close`.
    func detach() { state.withLock { $0.view = nil } }

    func shrinkSlice(to size: Int) { state.withLock { $0.view?.sliceSize = size } }
}
