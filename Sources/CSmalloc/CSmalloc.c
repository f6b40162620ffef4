#define _GNU_SOURCE
#include "CSmalloc.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void smalloc_futex_wait(uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, (void *)0, (void *)0, 0);
}

int smalloc_futex_wake_shared(void *word, int count) {
    int woken = (int)syscall(SYS_futex, word, FUTEX_WAKE, count, (void *)0, (void *)0, 0);
    return woken < 0 ? 0 : woken;
}

static const struct timespec *time_of(uint64_t deadline, struct timespec *time) {
    if (deadline == UINT64_MAX) return NULL;
    time->tv_sec = (time_t)(deadline / 1000000000);
    time->tv_nsec = (long)(deadline % 1000000000);
    return time;
}

int smalloc_futex_sleep(
    const void *word, uint32_t expected, const void *other, uint32_t known, uint64_t deadline) {
    // `struct futex_waitv`, which the headers have since Linux 5.16.
    struct {
        uint64_t value;
        uint64_t address;
        uint32_t flags;
        uint32_t reserved;
    } words[2] = {
        {expected, (uintptr_t)word, 2 /* FUTEX_32, not private */, 0},
        {known, (uintptr_t)other, 2, 0},
    };
    struct timespec time;
    // 449: `SYS_futex_waitv`, the same on all machines.
    long result = syscall(449, words, 2, 0, time_of(deadline, &time), CLOCK_MONOTONIC);
    return result >= 0 ? 0 : errno;
}

int smalloc_futex_sleep_one(const void *word, uint32_t expected, uint64_t deadline) {
    struct timespec time;
    // This one, unlike FUTEX_WAIT, takes a moment.
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, time_of(deadline, &time),
        (void *)0, FUTEX_BITSET_MATCH_ANY);
    return result >= 0 ? 0 : errno;
}

void smalloc_futex_wake(uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, (void *)0, (void *)0, 0);
}

size_t smalloc_usable_size(void *block) {
    return malloc_usable_size(block);
}

void smalloc_sort(void *entries, size_t count, size_t size,
    int (*compare)(const void *, const void *, void *), void *context) {
    smalloc_may_fail = true;
    qsort_r(entries, count, size, compare, context);
    smalloc_may_fail = false;
}

int smalloc_accept(int listener) {
    return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

bool smalloc_register(int epoll, int descriptor) {
    struct epoll_event event = {.events = 0, .data.fd = descriptor};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 || errno == EEXIST;
}

bool smalloc_peer_user(int socket, uid_t *user) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
    *user = peer.uid;
    return true;
}

pid_t smalloc_peer_process(int socket) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -1;
    return peer.pid;
}

int smalloc_unread_size(int socket) {
    int size = 0;
    return ioctl(socket, SIOCOUTQ, &size) == 0 ? size : -1;
}

void smalloc_watch_tcp(int socket) {
    int on = 1, idle = 30, interval = 5, count = 5, retry = 10000;
    setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    // Older kernels refuse it. They double the time between probes up to two minutes.
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif
    setsockopt(socket, IPPROTO_TCP, TCP_RTO_MAX_MS, &retry, sizeof retry);
}

int64_t smalloc_unanswered_milliseconds(int socket) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return -1;
    bool owesData = info.tcpi_unacked > 0 && info.tcpi_last_ack_recv > info.tcpi_last_data_sent;
    return info.tcpi_probes > 0 || owesData ? info.tcpi_last_ack_recv : 0;
}

char **smalloc_environment(void) {
    return environ;
}

void smalloc_heap_trim(void) {
    malloc_trim(0);
}

bool smalloc_is_sanitized(void) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return true;
#endif
#endif
    return false;
}

#if defined(__x86_64__)
typedef long long vector __attribute__((vector_size(16)));
typedef long long unaligned_vector __attribute__((vector_size(16), aligned(1)));

void smalloc_copy_streaming(void *dest, const void *source, size_t size) {
    char *to = dest;
    const char *from = source;
    size_t lead = -(uintptr_t)to & 15;
    if (lead > size) lead = size;
    memcpy(to, from, lead);
    to += lead;
    from += lead;
    size -= lead;
    for (; size >= 64; size -= 64, to += 64, from += 64) {
        const unaligned_vector *in = (const unaligned_vector *)from;
        vector *out = (vector *)to;
        vector a = in[0], b = in[1], c = in[2], d = in[3];
        // The hardware's own prefetching stops at each page. What lies beyond the end is not read.
        __builtin_prefetch(from + 1024, 0, 0);
        __builtin_nontemporal_store(a, out);
        __builtin_nontemporal_store(b, out + 1);
        __builtin_nontemporal_store(c, out + 2);
        __builtin_nontemporal_store(d, out + 3);
    }
    // Such stores are not ordered with what follows until told so.
    __builtin_ia32_sfence();
    memcpy(to, from, size);
}
#else
void smalloc_copy_streaming(void *dest, const void *source, size_t size) {
    memcpy(dest, source, size);
}
#endif
