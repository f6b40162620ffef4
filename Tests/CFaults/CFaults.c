#define _GNU_SOURCE
#include "CFaults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int armed_kind = -1, left_before, left_to_fail, failed;
static atomic_bool armed_for_all;
static _Thread_local bool is_armed;

void faults_arm(int kind, int after, int count, bool every_thread) {
    faults_disarm();
    left_before = after;
    left_to_fail = count;
    armed_for_all = every_thread;
    is_armed = true;
    armed_kind = kind;
}

int faults_disarm(void) {
    armed_kind = -1;
    is_armed = false;
    return atomic_exchange(&failed, 0);
}

// What Sources/CSmalloc asks before each call.
int smalloc_fault(int kind) {
    if (kind != armed_kind || (!armed_for_all && !is_armed)) return 0;
    if (atomic_fetch_sub(&left_before, 1) > 0) return 0;
    if (atomic_fetch_sub(&left_to_fail, 1) <= 0) return 0;
    atomic_fetch_add(&failed, 1);
    return 1;
}

int faults_open_as(unsigned user, const char *path, int flags) {
    syscall(SYS_setfsuid, (long)user);
    int file = open(path, flags | O_CLOEXEC);
    int number = errno;
    syscall(SYS_setfsuid, (long)geteuid());
    errno = number;
    return file;
}

bool faults_take_page(int file, int pipe) {
    return splice(file, &(off_t){0}, pipe, NULL, 4096, 0) == 4096;
}

bool faults_take_mapped_page(const void *page, int pipe) {
    struct iovec view = {(void *)page, 4096};
    return vmsplice(pipe, &view, 1, 0) == 4096;
}
