// What Swift can't import from the C library: function macros and calls hidden behind _GNU_SOURCE.
#ifndef CSMALLOC_H
#define CSMALLOC_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#pragma clang assume_nonnull begin

/// Sleeps while `*word` is `expected`; wakes on `smalloc_futex_wake`, on a signal, or for no reason.
void smalloc_futex_wait(uint32_t *word, uint32_t expected);
/// Wakes one thread that sleeps on `word`.
void smalloc_futex_wake(uint32_t *word);
/// Wakes threads, of all processes, that sleep on a word of shared memory, `count` at most:
/// how many.
int smalloc_futex_wake_shared(void *word, int count);
/// Sleeps while two words of shared memory are what they are expected to be, until a moment of
/// CLOCK_MONOTONIC in nanoseconds; UINT64_MAX: for ever.
///
/// 0: it was woken, by either. EAGAIN: one of them is another. ETIMEDOUT, EINTR. ENOSYS: the system
/// can't, before Linux 5.16; or EPERM, where a sandbox does not know the call.
int smalloc_futex_sleep(
    const void *word, uint32_t expected, const void *other, uint32_t known, uint64_t deadline);
/// The same on one word, by any Linux.
int smalloc_futex_sleep_one(const void *word, uint32_t expected, uint64_t deadline);

/// `malloc_usable_size`: bytes that a block of malloc really has.
size_t smalloc_usable_size(void *_Nullable block);

/// What a test can make fail, by defining `int smalloc_fault(int kind)`: it is asked before each
/// call, and anything but 0 fails it as if the system had no memory.
enum {
    SMALLOC_FAULT_ALLOCATE = 0,
    SMALLOC_FAULT_MAP = 1,
    SMALLOC_FAULT_UNMAP = 2,
    SMALLOC_FAULT_ADVISE = 3,
    SMALLOC_FAULT_THREAD = 4,
    SMALLOC_FAULT_FILE = 5,
};

/// `malloc`, for sizes and numbers that a client chooses: NULL if there is no memory.
void *_Nullable smalloc_allocate(size_t size);
/// `realloc` for the same; the old block stays when it fails.
void *_Nullable smalloc_reallocate(void *_Nullable block, size_t size);
/// The same, as zeros.
void *_Nullable smalloc_allocate_zeroed(size_t size);

/// Private anonymous memory, as zeros and not reserved; NULL if the kernel refuses it.
void *_Nullable smalloc_map(size_t size);
/// The same, at a multiple of `alignment`, which is a power of two and of the page size.
void *_Nullable smalloc_map_aligned(size_t size, size_t alignment);
/// `munmap`. False: the addresses are as they were, or in part unmapped.
bool smalloc_unmap(void *start, size_t size);
/// `MADV_DONTNEED`: the pages go back, and read as zeros. False: they may be as they were.
bool smalloc_return_pages(void *start, size_t size);
/// `MADV_REMOVE`: pages of a shared mapping go back, and read as zeros for all that map them. False:
/// they may be as they were.
bool smalloc_remove_pages(void *start, size_t size);
/// Tells the kernel whether huge pages are welcome. False: it did not take the advice.
bool smalloc_welcome_huge(void *start, size_t size, bool is_welcome);

/// Has the kernel make the page of a byte, which stays as it is.
void smalloc_touch(void *byte, bool is_writable);

/// An anonymous file of `size` bytes that can neither shrink nor grow nor be executed, for its user
/// alone: a descriptor, or -1 and errno. Its memory is taken page by page when it is touched.
int smalloc_file_create(size_t size);
/// Maps all of it, shared and writable, at a multiple of `alignment`, a power of two and of the page
/// size. NULL and errno: the kernel refuses.
void *_Nullable smalloc_file_map(int file, size_t size, size_t alignment);
/// Maps a part of it over addresses that are mapped already, for writing or in a way that lets it be
/// frozen. False and errno: they are as they were.
bool smalloc_file_replace(int file, size_t offset, void *start, size_t size, bool is_writable);
/// Whether no seal forbids new writable mappings of it.
bool smalloc_file_is_writable(int file);
/// Seals it against all writing, for ever. False and errno: EBUSY, while a process has it mapped for
/// writing; it may wait for system calls that use its pages, some 160 milliseconds.
bool smalloc_file_freeze(int file);
/// Has pages made, or read, before they are touched. False: there is no memory for them.
bool smalloc_populate(void *start, size_t size, bool is_writable);
/// Writes all of `bytes` to where the file was never written, by system calls, and leaves zeros out.
/// False and errno: some of it, or nothing, is written.
bool smalloc_file_write(int file, size_t offset, const void *bytes, size_t size);
/// Gives pages back, which read as zeros. False and errno: they may be as they were.
bool smalloc_file_punch(int file, size_t offset, size_t size);
/// Opens it anew, so that the kernel counts who holds it: a descriptor, or -1 and errno, which is
/// EWOULDBLOCK while a process has a lease on it.
int smalloc_file_reopen(int file, bool is_writable);
/// Who else holds it by `smalloc_file_reopen`, a mapping counts as the descriptor that it is of: 0
/// no process, 1 only for reading, 2 for writing, or a lease hides it; -1 and errno: not known.
///
/// It opens the file itself: calls for one file must follow each other. `O_PATH` descriptors, and
/// pages in pipes, are not seen.
int smalloc_file_holders(int file);

/// A descriptor that tells when files are gone, or -1 and errno.
int smalloc_watch_create(void);
/// Watches for the end of a file, when its last holder of any kind is gone: a number, or -1 and
/// errno.
int smalloc_watch_file(int watch, int file);
/// Numbers of files that are gone, at most `room`: how many; -1: none now; -2: some were missed.
int smalloc_watch_next(int watch, int *gone, int room);

/// Descriptors that one message carries at most.
#define SMALLOC_PASSED_MAX 2
/// Descriptors that one call receives at most: more than a kernel puts into one message.
#define SMALLOC_RECEIVED_MAX 254

/// Sends bytes with descriptors, which go with the first of them: bytes sent, or -1 and errno.
///
/// Never waits. EAGAIN: the socket is full; ETOOMANYREFS: too many descriptors are under way.
ssize_t smalloc_send_descriptors(int socket, const struct iovec *views, size_t count,
    const int *descriptors, size_t passed);
/// Receives bytes, and the descriptors that come with them, close-on-exec: as `recv`.
///
/// Descriptors for which there is no room are closed. -1 and EMFILE: the system has dropped some, as
/// the process may open no more; the others are closed, and the bytes are of no use.
ssize_t smalloc_receive_descriptors(int socket, void *bytes, size_t size, int flags,
    int *descriptors, size_t room, size_t *received);

/// Starts a thread that is never joined. False: there is none to be had, and `body` is not called.
bool smalloc_start_thread(
    void *_Nullable (*_Nonnull body)(void *_Nullable), void *_Nullable context);

/// Sets the C library's heap up so that the process's own large blocks are no kernel mappings of
/// their own. False: the C library does not take one of the settings.
bool smalloc_prepare_heap(void);

/// Sets memory of the heap aside, once, for what can't fail. False: there is none.
bool smalloc_set_reserve(size_t size);
/// Takes the reserve back if it was spent. False: there is no memory for it yet, and what can fail
/// should.
bool smalloc_keep_reserve(void);
/// Frees the reserve, under its lock, for a call that follows and can't fail.
void smalloc_spend_reserve(void);
void smalloc_lock_reserve(void);
void smalloc_unlock_reserve(void);
/// Whether this thread is in a call that can fail, and so must not spend the reserve.
extern _Thread_local bool smalloc_may_fail;

/// Touches the main thread's stack as far down as it ever goes: where there are no addresses left
/// it could not grow later.
void smalloc_touch_stack(void);

/// Gives free pages of the heap back to the kernel. Holds up threads that allocate meanwhile.
void smalloc_heap_trim(void);

/// Whether this was built for AddressSanitizer, which watches over malloc's memory alone.
bool smalloc_is_sanitized(void);

/// Begins to bring the cache line of an address in, which need not be there: it reads nothing.
static inline void smalloc_prefetch(uintptr_t address) {
    __builtin_prefetch((const void *)address);
}

/// Does one of `AtomicAction`, by its number, to an integer of 1, 2, 4 or 8 bytes that is aligned to
/// its size, sequentially consistent.
///
/// Of the values as many low bytes count as the integer has; `expected` is for compareExchange only.
/// Returns the old value, extended by its sign if it is signed.
uint64_t smalloc_atomic(void *cell, uint32_t size, bool is_signed, uint32_t action,
    uint64_t operand, uint64_t expected);

/// Sorts `count` entries of `size` bytes, with memory beside them only where there is some.
void smalloc_sort(void *entries, size_t count, size_t size,
    int (*compare)(const void *_Nullable left, const void *_Nullable right, void *_Nullable context),
    void *_Nullable context);

/// Copies much memory past the caches, at up to twice the speed of a copy through them.
///
/// The two must not overlap.
void smalloc_copy_streaming(void *dest, const void *source, size_t size);

/// `accept4` without an address, non-blocking and close-on-exec: a descriptor, or -1 and errno.
int smalloc_accept(int listener);

/// Registers a descriptor with an epoll descriptor for no event but its end, unless it is registered
/// already. False and errno: the kernel has no memory for it, or a user has no more to watch.
bool smalloc_register(int epoll, int descriptor);

/// `SO_PEERCRED`: who connected a Unix socket. False and errno, if the kernel does not say.
bool smalloc_peer_user(int socket, uid_t *user);

// The process that connected to a Unix socket, as this one knows it; -1: it does not.
pid_t smalloc_peer_process(int socket);

/// `SIOCOUTQ`: bytes of memory that hold what the other side has not read, or -1 and errno.
int smalloc_unread_size(int socket);

/// Has the kernel ask an idle TCP peer whether it is there, so that one that has vanished is gone
/// within a minute, and one with its window shut no less often than each 10 s (Linux 6.15).
void smalloc_watch_tcp(int socket);

/// `TCP_INFO`: milliseconds since a TCP peer acknowledged anything, if it owes an acknowledgement,
/// and else 0; or -1 and errno.
int64_t smalloc_unanswered_milliseconds(int socket);

/// The variables of the environment, `NAME=value` each, ended by NULL.
char *_Nullable *_Nullable smalloc_environment(void);

/// Tells the core that this thread spins.
static inline void smalloc_spin_hint(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#pragma clang assume_nonnull end

#endif
