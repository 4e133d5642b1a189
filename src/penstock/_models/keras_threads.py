"""CPU threads inside one call of a Keras model: what each backend can be told, and what it cannot."""

from __future__ import annotations

# Measured: --xla_cpu_multi_thread_eigen=false changes nothing, be it a flag or an option of the compiler; with NPROC=1
# a call keeps to one CPU, and calls from several threads take turns (jaxlib 0.10.2).
_JAX = (
    "JAX runs all calls on one pool, a thread for each CPU of the affinity, and cannot be told how many threads one "
    "call may use. It does not see a cgroup quota: for one, set NPROC in the environment before Python starts."
)


def limit_threads(backend: str, intra_threads: int) -> str | None:
    """Tell the backend how many CPU threads one call may use; return in words what it could not be told, or None.

    Torch is told by each worker thread (`KerasModel.worker`). TensorFlow has one pool for the process, which takes its
    size before it is first used; the other pool, of calls that run at once, is left as it is, a thread for each CPU:
    with one, calls from two threads take turns (77 images/s instead of 140 on 2 cores; MobileNetV2, TensorFlow 2.21.0).
    """
    if backend == "tensorflow":
        return _limit_tensorflow(intra_threads)
    return _JAX if backend == "jax" else None


def _limit_tensorflow(intra_threads: int) -> str | None:
    import tensorflow as tf

    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(intra_threads)
    except RuntimeError:  # the process has used TensorFlow already
        found = threading.get_intra_op_parallelism_threads()
        if found == intra_threads:
            return None
        said = f"{found} threads" if found else "a thread for each CPU"
        return (
            f"TensorFlow was in use before penstock was, with {said} inside one call instead of {intra_threads}; "
            "give the model as a .keras file, or call tf.config.threading.set_intra_op_parallelism_threads first."
        )
    return None
