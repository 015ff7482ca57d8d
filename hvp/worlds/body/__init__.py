"""Human bodies: 2D skeleton, capsule model, rendering of body part maps."""
