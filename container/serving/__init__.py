"""Answer SageMaker's requests. Never imports smdebug, nor anything that only training needs."""
