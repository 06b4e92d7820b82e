"""What people search for, and the cards that have it: entries of the index and of the search."""

TERMS = {
    "activation function": ["MLP", "rrelu"],
    "autoencoder": ["pretrain_autoencoder"],
    "batch normalization": ["MLP"],
    "checkpoint": ["Checkpointer"],
    "cross validation": ["cross_validate"],
    "data augmentation": ["augment"],
    "discriminative learning rates": ["layerwise_decay", "fine_tune"],
    "early stopping": ["EarlyStopping", "fit"],
    "elastic net": ["elastic_net", "add_elastic_net"],
    "embedding": ["adagrad", "ftrl"],
    "exponential moving average": ["polyak_average"],
    "feature extraction": ["cache_features"],
    "fine tuning": ["fine_tune"],
    "freeze layers": ["freeze"],
    "gradient clipping": ["clip_by_global_norm", "clip", "clip_by_norm", "adaptive_grad_clip"],
    "gradient descent": ["sgd"],
    "heavy ball": ["momentum"],
    "hyperparameter search": ["random_search"],
    "keras": ["from_keras"],
    "l1 regularization": ["l1", "add_l1_decay", "proximal_l1"],
    "l2 regularization": ["l2", "add_decayed_weights"],
    "layer-wise learning rates": ["layerwise_decay"],
    "learning rate finder": ["learning_rate_range"],
    "learning rate schedule": ["exponential_decay", "power_decay", "piecewise_constant"],
    "low memory": ["compress_state"],
    "max norm": ["max_norm"],
    "model zoo": ["Zoo"],
    "nan": ["skip_nonfinite"],
    "nesterov momentum": ["nesterov", "scale_by_true_nesterov"],
    "online learning": ["fit_online", "ftrl"],
    "plateau": ["reduce_on_plateau"],
    "pruning": ["magnitude_prune"],
    "pytorch": ["from_torch"],
    "restricted boltzmann machine": ["pretrain_rbm"],
    "safetensors": ["from_safetensors"],
    "sparsity": ["proximal_l1", "magnitude_prune", "ftrl"],
    "state dict": ["from_torch"],
    "stochastic weight averaging": ["polyak_average"],
    "transfer learning": ["fine_tune", "freeze", "replace_head"],
    "warm-up": ["radam"],
    "weight averaging": ["polyak_average"],
    "weight decay": ["adamw", "add_decayed_weights"],
}


def entries(name: str) -> list[str]:
    """The terms of a card; the first card of a term is its main entry."""
    return [
        f"! {term}" if names[0] == name else term for term, names in TERMS.items() if name in names
    ]
