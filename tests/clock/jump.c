/* Preloaded into a worker by tests/it/clock.rs: its wall clock is wrong by as many nanoseconds as the file CLOCK_JUMP_FILE
 * says, and jumps when the file changes. The monotonic clock is left alone, as a jump of a machine's clock leaves it. Waits
 * until a moment of the wall clock end when that much time has really passed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *jump;

static int64_t offset(void) {
  if (!jump) {
    const char *file = getenv("CLOCK_JUMP_FILE");
    int open_file = file ? open(file, O_RDONLY) : -1;
    void *seen = open_file < 0 ? MAP_FAILED : mmap(0, sizeof *jump, PROT_READ, MAP_SHARED, open_file, 0);
    if (seen == MAP_FAILED) abort();
    jump = seen;
  }
  return *jump;
}

static void move(struct timespec *time, int64_t nanoseconds) {
  int64_t moved = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + nanoseconds;
  time->tv_sec = moved / 1000000000;
  time->tv_nsec = moved % 1000000000;
  if (time->tv_nsec < 0) { /* before 1970 */
    time->tv_sec -= 1;
    time->tv_nsec += 1000000000;
  }
}

/* Not by dlsym: the allocator asks for the time before that can be used. */
int clock_gettime(clockid_t clock, struct timespec *time) {
  int result = (int)syscall(SYS_clock_gettime, clock, time);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) move(time, offset());
  return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}

int timespec_get(struct timespec *time, int base) {
  return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, time) == 0 ? base : 0;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec moved = *until;
  move(&moved, -offset());
  return real(condition, mutex, &moved);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  struct timespec moved = *until;
  move(&moved, -offset());
  return real(condition, mutex, &moved);
}
