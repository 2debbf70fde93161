"""Where the network runs, and in which arithmetic."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Processor:
    """Where the network runs, and in which arithmetic."""

    device: torch.device
    bfloat16: bool

    @classmethod
    def choose(cls, precision: str) -> "Processor":
        """A GPU if there is one; bfloat16 where asked for, or where the processor has it."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if precision == "auto":
            native = (
                torch.cuda.is_bf16_supported(including_emulation=False)
                if device.type == "cuda"
                else torch.cpu.get_capabilities().get("avx512_bf16", False)
            )
            return cls(device, bool(native))
        return cls(device, precision == "bfloat16")

    @property
    def precision(self) -> str:
        """The arithmetic by name: float32 or bfloat16."""
        return "bfloat16" if self.bfloat16 else "float32"

    def autocast(self) -> torch.autocast:
        """The context in which the forward pass runs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def __str__(self) -> str:
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"CPU with {torch.get_num_threads()} threads"
        )
        return f"{name}, {self.precision}"
