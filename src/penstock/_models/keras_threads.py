"""CPU threads inside one call of a Keras model: what each backend can be told, and what it cannot."""

from __future__ import annotations


def limit_threads(backend: str, intra_threads: int) -> str | None:
    """Tell the backend how many CPU threads one call may use; return in words what it could not be told, or None.

    Torch is told by each worker thread, JAX with each program (`keras_programs`). TensorFlow has one pool for the
    process, which takes its size before it is first used.
    """
    return _limit_tensorflow(intra_threads) if backend == "tensorflow" else None


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
